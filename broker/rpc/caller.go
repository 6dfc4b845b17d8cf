package rpc

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// Rights judges what principals may do and take, by the metadata as it is applied here. It is safe for concurrent use.
type Rights struct {
	dir    Directory
	supers map[string]bool

	mu      sync.Mutex
	budgets map[string]*budget // by principal, of those that have a quota
}

// NewRights makes the judge; supers may do everything.
func NewRights(dir Directory, supers []string) *Rights {
	r := &Rights{dir: dir, supers: map[string]bool{}, budgets: map[string]*budget{}}
	for _, name := range supers {
		r.supers[name] = true
	}
	return r
}

// allowed reports whether a principal may do something now.
func (r *Rights) allowed(principal string, op cluster.Operation, kind cluster.ResourceKind, name string) bool {
	return r.supers[principal] || r.dir.View().Access().Allowed(principal, op, kind, name)
}

// denied is the refusal, which says what to ask an administrator for.
func denied(principal string, op cluster.Operation, kind cluster.ResourceKind, name string) *partition.Error {
	what := fmt.Sprintf("%s %q", kind, name)
	flag := fmt.Sprintf("--%s %s", kind, name)
	if kind == cluster.ResourceCluster {
		what, flag = "the cluster", "--cluster"
	}
	if principal == "" {
		principal = "anonymous"
	}
	return &partition.Error{Reason: partition.ReasonDenied, Message: fmt.Sprintf("%s may not %s %s: an administrator can allow it: broker acl allow %[1]s %[2]s %[4]s", principal, op, what, flag)}
}

// Caller is who makes one call. A nil Caller may do everything: nobody has to say who he is. It is safe for concurrent use.
type Caller struct {
	rights    *Rights
	principal string
	all       bool // rights are not asked for here

	mu      sync.Mutex
	version uint64 // of the access that seen was judged by
	seen    map[need]bool
}

// need is one right.
type need struct {
	op   cluster.Operation
	kind cluster.ResourceKind
	name string
}

// callerCacheMax bounds what a call remembers of its rights.
const callerCacheMax = 1024

func (c *Caller) check(n need) *partition.Error {
	if c == nil || c.may(n) {
		return nil
	}
	return denied(c.principal, n.op, n.kind, n.name)
}

func (c *Caller) may(n need) bool {
	if c == nil || c.all {
		return true
	}
	version := c.rights.dir.View().Access().Version
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version != version || len(c.seen) >= callerCacheMax {
		c.version, c.seen = version, nil
	}
	ok, known := c.seen[n]
	if !known {
		ok = c.rights.allowed(c.principal, n.op, n.kind, n.name)
		if c.seen == nil {
			c.seen = map[need]bool{}
		}
		c.seen[n] = ok
	}
	return ok
}

// spending is what a quota counts.
type spending int

const (
	spendProduce spending = iota
	spendFetch
	spendRequests
	spendings
)

// budget is what a principal has left of its quota on this broker: token buckets of one second each.
type budget struct {
	quota   cluster.Quota
	buckets [spendings]*rate.Limiter // nil: no bound
}

func newBudget(q cluster.Quota) *budget {
	b := &budget{quota: q}
	for i, n := range []uint64{q.ProduceBytes, q.FetchBytes, q.Requests} {
		if n > 0 {
			n = min(n, math.MaxInt32)
			b.buckets[i] = rate.NewLimiter(rate.Limit(n), int(n))
		}
	}
	return b
}

// spend takes n of a principal's quota at a time (monotonic ns). Who has gone beyond it is refused until the debt is paid off: the
// last one before may overdraw, so a batch larger than a second's quota passes.
func (c *Caller) spend(now int64, what spending, n int) *partition.Error {
	if c == nil {
		return nil
	}
	return c.rights.spend(c.principal, now, what, n, false)
}

// connectionsMax is how many connections a principal may have open; 0: no bound. That of all others does not lock out a super user.
func (r *Rights) connectionsMax(principal string) uint64 {
	q := r.dir.View().Access().QuotaOf(principal)
	if q.Principal != principal && r.supers[principal] {
		return 0
	}
	return q.Connections
}

// charge takes n of a principal's quota for what is given already.
func (c *Caller) charge(now int64, what spending, n int) {
	if c != nil {
		_ = c.rights.spend(c.principal, now, what, n, true)
	}
}

func (r *Rights) spend(principal string, now int64, what spending, n int, given bool) *partition.Error {
	q := r.dir.View().Access().QuotaOf(principal)
	if q.ProduceBytes|q.FetchBytes|q.Requests == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.budgets[principal]
	if b == nil || b.quota != q {
		if len(r.budgets) >= cluster.UsersMax {
			clear(r.budgets)
		}
		b = newBudget(q)
		r.budgets[principal] = b
	}
	bucket := b.buckets[what]
	if bucket == nil {
		return nil
	}
	at := time.Unix(0, now)
	if left := bucket.TokensAt(at); left < 0 && !given {
		wait := max(int64(-left/float64(bucket.Limit())*1e3), 1)
		return &partition.Error{Reason: partition.ReasonQuota, RetryAfterMs: wait, Message: fmt.Sprintf("%s has used up its quota of %.0f %s per second: slow down for %d ms, or raise it: broker quota set %[1]s",
			principal, float64(bucket.Limit()), [...]string{"bytes to produce", "bytes to fetch", "requests"}[what], wait)}
	}
	for n > 0 { // a reservation is at most one burst
		part := min(n, bucket.Burst())
		bucket.ReserveN(at, part)
		n -= part
	}
	return nil
}
