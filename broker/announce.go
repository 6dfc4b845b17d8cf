package broker

import (
	"context"
	"slices"
	"sync"
	"time"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// register announces this broker's addresses, which removed replicas are gone from here, and which groups led here have settled, until the
// metadata says so.
func (n *node) register(ctx context.Context) {
	wait := announceMin
	for {
		wake, pause := n.announcing, registerEvery
		if cmd, what := n.announcement(); cmd != nil {
			wake, pause = nil, announceMin // what wakes it meanwhile is in the next one
			if err := n.host.propose(ctx, n.parts.MetaGroup, cmd); err != nil && ctx.Err() == nil {
				n.log.Debug("not announced yet", "what", what, "err", err)
				wait = min(2*wait, registerEvery)
				pause = wait
			} else {
				wait = announceMin
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-wake:
		}
	}
}

// announceMin is the shortest time between two announcements.
const announceMin = 10 * time.Millisecond

func (n *node) dirID() cluster.ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return cluster.ID(n.data.Identity().DirID)
}

// announceSoon has register look whether there is something to announce.
func (n *node) announceSoon() {
	select {
	case n.announcing <- struct{}{}:
	default:
	}
}

// announcement is the command that would make the metadata true about this broker; nil if it is.
func (n *node) announcement() (cmd []byte, what string) {
	v := n.parts.View()
	dir := n.dirID()
	if seat, ok := v.Seat(n.opts.NodeID); !ok || seat.DirID != dir {
		return nil, "" // the metadata here is older than this broker's seat
	}
	want := cluster.RegisterBroker{RequestID: randomID(), NodeID: n.opts.NodeID, DirID: dir, ClientAddr: n.opts.Advertise, PeerAddr: n.opts.AdvertisePeer,
		HTTPAddr: n.opts.HTTPListen, Version: cluster.SayKnown(n.opts.Version, cluster.CommandsKnown)}
	if ok, _, _ := v.Allows(cluster.FeatureRacks); ok {
		want.Rack = n.opts.Rack
	}
	b, ok := v.BrokerByID(n.opts.NodeID)
	if !ok || b.Rack != want.Rack || b.ClientAddr != want.ClientAddr || b.PeerAddr != want.PeerAddr || b.HTTPAddr != want.HTTPAddr || b.Version != want.Version {
		return cluster.EncodeRegisterBroker(want), "addresses"
	}
	if groups := n.unconfirmed.Load(); groups != nil && len(*groups) > 0 {
		return cluster.EncodeConfirmRemoved(cluster.ConfirmRemoved{RequestID: randomID(), DirID: dir, Groups: *groups}), "removed groups"
	}
	if groups := n.settled.of(v); len(groups) > 0 {
		return cluster.EncodeSettled(cluster.SettledGroups{RequestID: randomID(), Groups: groups}), "settled groups"
	}
	if to := n.raisable(v); to > v.Commands {
		return cluster.EncodeRaiseCommands(cluster.RaiseCommands{RequestID: randomID(), To: to}), "version of commands"
	}
	if cmd := n.awayCommand(v); cmd != nil {
		return cmd, "brokers that are away"
	}
	return nil, ""
}

// raisable is the version of commands that the metadata group's leader may raise the cluster to: what every broker registered, and greeted
// with last. Others raise nothing: 0.
func (n *node) raisable(v *cluster.View) uint32 {
	if leader, _, _ := n.dir.Leader(n.parts.MetaGroup); leader != n.opts.NodeID {
		return 0
	}
	to := v.Raisable()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range v.Seats() {
		if known, ok := n.greeted[s.NodeID]; ok {
			to = min(to, known) // it was started with an older build, and is about to register it
		}
	}
	return to
}

// settledGroups are the versions of memberships that leaders here have brought about.
type settledGroups struct {
	mu       sync.Mutex
	versions map[partition.GroupID]uint64
}

func (s *settledGroups) add(list []partition.Settled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versions == nil {
		s.versions = map[partition.GroupID]uint64{}
	}
	for _, x := range list {
		s.versions[x.Group] = max(s.versions[x.Group], x.Version)
	}
}

// of are those that the metadata waits for. Those that it is past are forgotten; of those that it has not reached, it may still ask.
func (s *settledGroups) of(v *cluster.View) (list []cluster.Moving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range v.Moving() {
		if s.versions[m.Group] == m.Version {
			list = append(list, m)
		}
	}
	for g, version := range s.versions {
		if version <= v.Version && !slices.Contains(list, cluster.Moving{Group: g, Version: version}) {
			delete(s.versions, g)
		}
	}
	return list
}

// Settled implements engine.Sink.
func (n *node) Settled(list []partition.Settled) {
	n.settled.add(list)
	n.announceSoon()
}
