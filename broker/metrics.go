package broker

import (
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/broker/rpc"
	"lograft/broker/security"
	"lograft/broker/transport"
)

// The metrics of /metrics (interface.md §5, docs/metrics.md). They are read from counters that the parts keep anyway, at the moment
// somebody asks: nothing that must be correct knows of them.

// sample is what one look at a broker saw.
type sample struct {
	engine   engine.Stats
	rpc      rpc.Stats
	links    []transport.LinkStats
	disk     *diskStats
	space    diskSpace
	replicas replicaSample

	reserve int64
	full    bool

	refused        [3]int64 // connections, by listenerNames
	flooded        [2]int64 // the same
	reloadFailures int64
	unfinished     int64 // bytes
	overfull       int64 // connections

	groups, led, leaderless int
	now                     int64 // monotonic, ns
}

// number is one metric without labels of its own.
type number struct {
	name, help string
	kind       prometheus.ValueType
	value      func(*sample) float64
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// numbers are in the order of the questions that they answer.
var numbers = []number{
	{"lograft_groups", "Raft groups with a replica on this broker, the metadata group included.", gauge, func(s *sample) float64 { return float64(s.groups) }},
	{"lograft_groups_led", "Groups that this broker leads.", gauge, func(s *sample) float64 { return float64(s.led) }},
	{"lograft_groups_leaderless", "Groups with a replica here that know no leader.", gauge, func(s *sample) float64 { return float64(s.leaderless) }},
	{"lograft_groups_under_replicated", "Groups led here of which a replica is behind or on a broker that is not connected.", gauge, func(s *sample) float64 { return float64(s.replicas.underReplicated) }},
	{"lograft_replicas_faulty", "Replicas here that do not serve: halted, quarantined or not answering.", gauge, func(s *sample) float64 { return float64(s.replicas.faulty) }},
	{"lograft_replicas_refilling", "Replicas here that lost their log and are being filled from others: they neither vote nor serve until they hold everything again.", gauge, func(s *sample) float64 { return float64(s.replicas.refilling) }},
	{"lograft_replicas_damaged", "Replicas here that hold damaged entries, under repair from others.", gauge, func(s *sample) float64 { return float64(s.replicas.damaged) }},
	{"lograft_repaired_entries_total", "Entries that replicas here repaired from others.", counter, func(s *sample) float64 { return float64(s.replicas.repaired) }},
	{"lograft_leaderships_won_total", "Elections won by replicas here.", counter, func(s *sample) float64 { return float64(s.engine.LeadershipsWon) }},
	{"lograft_leaderships_lost_total", "Leaderships of replicas here that ended.", counter, func(s *sample) float64 { return float64(s.engine.LeadershipsLost) }},

	{"lograft_sync_rounds_total", "Sync rounds that ended; one is under way at a time.", counter, func(s *sample) float64 { return float64(s.engine.Rounds) }},
	{"lograft_sync_data_rounds_total", "Sync rounds that made appended entries stable.", counter, func(s *sample) float64 { return float64(s.engine.DataRounds) }},
	{"lograft_synced_replicas_total", "Replicas made stable by sync rounds, counted once per round.", counter, func(s *sample) float64 { return float64(s.engine.Synced) }},
	{"lograft_sync_under_way_seconds", "Age of the sync round under way, 0 if none is.", gauge, func(s *sample) float64 { return s.roundAge().Seconds() }},
	{"lograft_disk_writes_total", "Write calls of the logs.", counter, func(s *sample) float64 { return float64(s.disk.writes.Load()) }},
	{"lograft_disk_written_bytes_total", "Bytes that the logs gave to write calls, headers of frames included.", counter, func(s *sample) float64 { return float64(s.disk.writeBytes.Load()) }},
	{"lograft_disk_reads_total", "Read calls of the logs.", counter, func(s *sample) float64 { return float64(s.disk.reads.Load()) }},
	{"lograft_disk_read_bytes_total", "Bytes that the logs read from files.", counter, func(s *sample) float64 { return float64(s.disk.readBytes.Load()) }},
	{"lograft_disk_syncs_total", "Syncs of files and directories by the logs.", counter, func(s *sample) float64 { return float64(s.disk.syncs.Load()) }},
	{"lograft_disk_sync_seconds_total", "Time that these syncs took.", counter, func(s *sample) float64 { return float64(s.disk.syncNs.Load()) / 1e9 }},
	{"lograft_disk_errors_total", "Writes and syncs that failed.", counter, func(s *sample) float64 { return float64(s.disk.errors.Load()) }},
	{"lograft_disk_free_bytes", "Free bytes on the file system of the data directory.", gauge, func(s *sample) float64 { return float64(s.space.free) }},
	{"lograft_disk_size_bytes", "Size of the file system of the data directory.", gauge, func(s *sample) float64 { return float64(s.space.size) }},
	{"lograft_disk_reserve_bytes", "Bytes of it that the broker keeps free for what is under way.", gauge, func(s *sample) float64 { return float64(s.reserve) }},
	{"lograft_disk_full", "1 while the disk is at its reserve: appends wait where a majority has no room.", gauge, func(s *sample) float64 { return one(s.full) }},
	{"lograft_disk_full_refused_total", "Appends that leaders here refused with DISK_FULL.", counter, func(s *sample) float64 { return float64(s.engine.DiskRefused) }},
	{"lograft_disk_full_withheld_total", "Messages with records that followers here did not take because the disk is at its reserve.", counter, func(s *sample) float64 { return float64(s.engine.DiskWithheld) }},
	{"lograft_device_written_bytes_total", "Bytes that the kernel wrote to devices for this process, where it tells.", counter, func(s *sample) float64 { return float64(s.space.deviceWritten) }},

	{"lograft_produce_batches_total", "Batches that this broker took as leader.", counter, func(s *sample) float64 { return float64(s.engine.ProduceBatches) }},
	{"lograft_produce_records_total", "Records in these batches.", counter, func(s *sample) float64 { return float64(s.engine.ProduceRecords) }},
	{"lograft_produce_bytes_total", "Bytes of these batches, compressed as they came.", counter, func(s *sample) float64 { return float64(s.engine.ProduceBytes) }},
	{"lograft_log_batches_total", "Batches handed to the logs here, as leader or follower.", counter, func(s *sample) float64 { return float64(s.engine.LogBatches) }},
	{"lograft_log_payload_bytes_total", "Payload bytes handed to the logs here, as leader or follower.", counter, func(s *sample) float64 { return float64(s.engine.LogPayloadBytes) }},
	{"lograft_log_bytes", "Bytes of all logs here on disk.", gauge, func(s *sample) float64 { return float64(s.replicas.logBytes) }},
	{"lograft_read_rounds_total", "ReadIndex rounds that replicas here asked for and got an answer to.", counter, func(s *sample) float64 { return float64(s.engine.ReadRounds) }},
	{"lograft_reads_confirmed_total", "Reads that these rounds served.", counter, func(s *sample) float64 { return float64(s.engine.ReadsConfirmed) }},
	{"lograft_certificate_reload_failures_total", "Looks at certificate files that found some that can't be used; the old ones stay in use.", counter, func(s *sample) float64 { return float64(s.reloadFailures) }},
	{"lograft_unfinished_message_bytes", "Bytes of messages that clients began and that no call has taken yet.", gauge, func(s *sample) float64 { return float64(s.unfinished) }},
	{"lograft_connections_overfull_total", "Connections closed because they held more of such messages than they may.", counter, func(s *sample) float64 { return float64(s.overfull) }},
	{"lograft_engine_steps_total", "Steps of the workers.", counter, func(s *sample) float64 { return float64(s.engine.Steps) }},
}

func (s *sample) roundAge() time.Duration {
	if s.engine.RoundBeganNs == 0 {
		return 0
	}
	return time.Duration(max(0, s.now-s.engine.RoundBeganNs))
}

// The metrics with labels of their own.
var (
	descSync      = prometheus.NewDesc("lograft_sync_round_seconds", "Time that a sync round took.", nil, nil)
	descStage     = prometheus.NewDesc("lograft_produce_stage_seconds", "Time of a batch in each stage: queue, append, sync, replicate, respond.", []string{"stage"}, nil)
	descRefused   = prometheus.NewDesc("lograft_client_errors_total", "Errors that clients were answered, by reason (docs/errors.md).", []string{"reason"}, nil)
	descPeerUp    = prometheus.NewDesc("lograft_peer_connected", "1 if frames to the peer pass.", []string{"peer", "class"}, nil)
	descFrames    = prometheus.NewDesc("lograft_peer_frames_total", "Frames queued for the peer.", []string{"peer", "class"}, nil)
	descBytes     = prometheus.NewDesc("lograft_peer_bytes_total", "Bytes of these frames.", []string{"peer", "class"}, nil)
	descDropped   = prometheus.NewDesc("lograft_peer_messages_dropped_total", "Messages that were not sent, for want of a stream or of room in its queue.", []string{"peer", "class"}, nil)
	descQueued    = prometheus.NewDesc("lograft_peer_queued_bytes", "Bytes that wait for the peer.", []string{"peer", "class"}, nil)
	descFloods    = prometheus.NewDesc("lograft_connections_flooded_total", "Connections closed for a flood of frames that carry nothing or for messages that no call has taken, by listener: client, peer.", []string{"listener"}, nil)
	descConns     = prometheus.NewDesc("lograft_connections_refused_total", "Connections closed at once for being too many, by listener: client, peer, http.", []string{"listener"}, nil)
	labelled      = []*prometheus.Desc{descSync, descStage, descRefused, descConns, descFloods, descPeerUp, descFrames, descBytes, descDropped, descQueued}
	partitioned   = []string{"topic", "partition"}
	descHigh      = prometheus.NewDesc("lograft_partition_high_watermark", "Next offset after the applied records.", partitioned, nil)
	descStart     = prometheus.NewDesc("lograft_partition_log_start_offset", "First offset that can be read.", partitioned, nil)
	descSize      = prometheus.NewDesc("lograft_partition_log_bytes", "Bytes of the partition's log on this disk.", partitioned, nil)
	descLeads     = prometheus.NewDesc("lograft_partition_leader", "1 if this broker leads the partition.", partitioned, nil)
	descBehind    = prometheus.NewDesc("lograft_partition_replicas_behind", "Replicas of a partition led here that are behind or not connected.", partitioned, nil)
	descUnapplied = prometheus.NewDesc("lograft_partition_unapplied_entries", "Entries in this log that are not applied yet.", partitioned, nil)
	perPartition  = []*prometheus.Desc{descHigh, descStart, descSize, descLeads, descBehind, descUnapplied}
)

// collector reads a broker's counters. It gives nothing but what the broker is before the broker has joined.
type collector struct {
	b     *Broker
	info  prometheus.Metric
	descs []*prometheus.Desc
}

func newRegistry(b *Broker) *prometheus.Registry {
	c := &collector{b: b}
	desc := prometheus.NewDesc("lograft_info", "1; the labels say what this broker is.", nil, prometheus.Labels{
		"node": strconv.FormatUint(b.opts.NodeID, 10), "version": b.opts.Version, "go": runtime.Version(), "pid": strconv.Itoa(os.Getpid()), "sync": "always"})
	c.info = prometheus.MustNewConstMetric(desc, gauge, 1)
	for _, n := range numbers {
		c.descs = append(c.descs, prometheus.NewDesc(n.name, n.help, nil, nil))
	}
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.info.Desc()
	for _, list := range [][]*prometheus.Desc{c.descs, labelled, perPartition, perGroup} {
		for _, d := range list {
			ch <- d
		}
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ch <- c.info
	n := c.b.running.Load()
	if n == nil {
		return
	}
	s := n.sample()
	for i := range numbers {
		ch <- prometheus.MustNewConstMetric(c.descs[i], numbers[i].kind, numbers[i].value(s))
	}
	ch <- histogram(descSync, &s.engine.RoundTook)
	for _, x := range []struct {
		stage string
		h     *partition.Histogram
	}{{"queue", &s.engine.Queue}, {"append", &s.engine.Append}, {"sync", &s.engine.Sync}, {"replicate", &s.engine.Replicate}, {"respond", &s.rpc.Respond}} {
		ch <- histogram(descStage, x.h, x.stage)
	}
	for i, count := range s.refused {
		ch <- prometheus.MustNewConstMetric(descConns, counter, float64(count), listenerNames[i])
	}
	for i, count := range s.flooded {
		ch <- prometheus.MustNewConstMetric(descFloods, counter, float64(count), listenerNames[i])
	}
	for reason, count := range s.rpc.Refused {
		ch <- prometheus.MustNewConstMetric(descRefused, counter, float64(count), string(reason))
	}
	for i := range s.links {
		collectLink(ch, &s.links[i])
	}
	if !c.b.opts.NoPartitionMetrics {
		s.replicas.collect(ch)
	}
	if !c.b.opts.NoGroupMetrics {
		n.sampleGroups().collect(ch)
	}
}

func collectLink(ch chan<- prometheus.Metric, l *transport.LinkStats) {
	labels := []string{strconv.FormatUint(l.To, 10), l.Class.String()}
	for _, x := range []struct {
		desc *prometheus.Desc
		kind prometheus.ValueType
		v    float64
	}{{descPeerUp, gauge, one(l.Up)}, {descFrames, counter, float64(l.Frames)}, {descBytes, counter, float64(l.Bytes)}, {descDropped, counter, float64(l.Dropped)}, {descQueued, gauge, float64(l.QueuedBytes)}} {
		ch <- prometheus.MustNewConstMetric(x.desc, x.kind, x.v, labels...)
	}
}

var listenerNames = [...]string{"client", "peer", "http"}

func (l *limited) refused() (counts [3]int64) {
	for i, s := range []*security.Listener{l.client, l.peer, l.http} {
		if s != nil {
			counts[i] = s.Refused()
		}
	}
	return counts
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// histogram turns counts into Prometheus's, whose buckets contain all shorter durations.
func histogram(d *prometheus.Desc, h *partition.Histogram, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Buckets))
	var sum uint64
	for i, n := range h.Buckets {
		sum += n
		buckets[float64(partition.BoundsNs[i])/1e9] = sum
	}
	return prometheus.MustNewConstHistogram(d, h.Count, float64(h.SumNs)/1e9, buckets, labels...)
}

// sample looks at a running broker.
func (n *node) sample() *sample {
	s := &sample{engine: n.engine.Stats(), rpc: n.services.Stats(), links: n.mesh.Stats(), disk: &n.disk, space: spaceOf(n.data.Path()),
		reserve: n.reserve.Load(), full: n.diskFull.Load(), refused: n.limited.refused(), flooded: [2]int64{n.access.clientFloods.Closed(), n.access.peerFloods.Closed()}, reloadFailures: n.access.reloadFailures.Load(), unfinished: n.access.clientFloods.Unfinished(), overfull: n.access.clientFloods.Overfull()}
	s.now, _ = n.now()
	s.groups, s.led, s.leaderless = n.dir.led()
	s.replicas = n.sampleReplicas(s.links)
	return s
}
