package rpc

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"lograft/broker/cluster"
	"lograft/broker/group"
	"lograft/broker/partition"
)

// ErrorDomain is ErrorInfo.domain of every status.
const ErrorDomain = "lograft"

// codeOf is the one table of reasons and gRPC codes; docs/errors.md is checked against it.
var codeOf = map[partition.Reason]codes.Code{
	partition.ReasonNotLeader:                      codes.FailedPrecondition,
	partition.ReasonNotReady:                       codes.Unavailable,
	partition.ReasonUnknownGroup:                   codes.Unavailable,
	partition.ReasonTimeout:                        codes.Unavailable,
	partition.ReasonUnavailable:                    codes.Unavailable,
	partition.ReasonOutOfRange:                     codes.OutOfRange,
	partition.ReasonSequenceGap:                    codes.Aborted,
	partition.ReasonFenced:                         codes.FailedPrecondition,
	partition.ReasonProducerTableFull:              codes.ResourceExhausted,
	partition.ReasonExpectedOffset:                 codes.Aborted,
	partition.ReasonTooLarge:                       codes.InvalidArgument,
	partition.ReasonCorrupt:                        codes.InvalidArgument,
	partition.ReasonInvalid:                        codes.InvalidArgument,
	partition.ReasonOverloaded:                     codes.ResourceExhausted,
	partition.ReasonDiskFull:                       codes.ResourceExhausted,
	partition.ReasonFaulty:                         codes.Unavailable,
	partition.ReasonShutdown:                       codes.Unavailable,
	partition.ReasonTopicExists:                    codes.AlreadyExists,
	partition.ReasonTopicNotFound:                  codes.NotFound,
	partition.ReasonNotEnoughBrokers:               codes.FailedPrecondition,
	partition.Reason(cluster.ReasonLimit):          codes.ResourceExhausted,
	partition.Reason(cluster.ReasonWrongDirectory): codes.FailedPrecondition,
	partition.Reason(group.ReasonUnknownMember):    codes.FailedPrecondition,
	partition.Reason(group.ReasonFencedInstance):   codes.FailedPrecondition,
	partition.Reason(group.ReasonStaleGeneration):  codes.Aborted,
	partition.Reason(group.ReasonGroupNotFound):    codes.NotFound,
	partition.Reason(group.ReasonGroupNotEmpty):    codes.FailedPrecondition,
	partition.Reason(cluster.ReasonUserNotFound):   codes.NotFound,
	partition.Reason(cluster.ReasonBrokerNotFound): codes.NotFound,
	partition.Reason(cluster.ReasonBrokerInUse):    codes.FailedPrecondition,
	partition.Reason(cluster.ReasonMajorityLost):   codes.FailedPrecondition,
	partition.Reason(cluster.ReasonInProgress):     codes.Aborted,
	partition.Reason(cluster.ReasonNotUpgraded):    codes.FailedPrecondition,
	partition.Reason(cluster.ReasonTooOld):         codes.FailedPrecondition,
	partition.ReasonUnauthenticated:                codes.Unauthenticated,
	partition.ReasonDenied:                         codes.PermissionDenied,
	partition.ReasonQuota:                          codes.ResourceExhausted,
	partition.ReasonInternal:                       codes.Internal,
}

// toStatus makes the status of a whole call.
func toStatus(dir Directory, e *partition.Error) error {
	code, ok := codeOf[e.Reason]
	if !ok {
		code = codes.Internal
	}
	p := toError(dir, e)
	info := &errdetails.ErrorInfo{Reason: p.Reason, Domain: ErrorDomain, Metadata: map[string]string{}}
	set := func(key string, v int64) {
		if v != 0 {
			info.Metadata[key] = strconv.FormatInt(v, 10)
		}
	}
	set("leader_node", int64(p.LeaderNode))
	set("leader_epoch", int64(p.LeaderEpoch))
	if p.LeaderAddress != "" {
		info.Metadata["leader_address"] = p.LeaderAddress
	}
	if e.Reason == partition.ReasonOutOfRange || e.Reason == partition.ReasonExpectedOffset {
		info.Metadata["log_start"] = strconv.FormatInt(p.LogStart, 10)
		info.Metadata["high_watermark"] = strconv.FormatInt(p.HighWatermark, 10)
	}
	if e.Outcome == partition.OutcomeUnknown {
		info.Metadata["outcome"] = "unknown"
	}
	details := []protoadapt.MessageV1{info}
	if e.RetryAfterMs > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(e.RetryAfterMs) * time.Millisecond)})
	}
	s := status.New(code, e.Message)
	if withDetails, err := s.WithDetails(details...); err == nil {
		s = withDetails
	}
	return s.Err()
}
