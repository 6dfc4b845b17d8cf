package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lograft/segment/vfs"
)

// makes are the two journals, each with a way to open it again and to get at its bytes.
func makes(t *testing.T) map[string]*maker {
	dir := t.TempDir()
	mem := vfs.NewMem()
	return map[string]*maker{
		"wal": {
			open:  func() (Journal, error) { return OpenWAL(dir + "/journal") },
			files: func(log string) []string { return realFiles(t, dir+"/journal/"+log) },
			read:  func(name string) []byte { return must(os.ReadFile(name))(t) },
			write: func(name string, b []byte) { check(t, os.WriteFile(name, b, 0o640)) },
			drop:  func(log string) { check(t, os.RemoveAll(dir+"/journal/"+log)) },
		},
		"twin": {
			open:  func() (Journal, error) { return OpenTwin(mem, "journal") },
			files: func(log string) []string { return []string{"journal/" + log} },
			read: func(name string) []byte {
				f := must(mem.Open(name))(t)
				b := make([]byte, must(f.Size())(t))
				_, _ = f.ReadAt(b, 0)
				check(t, f.Close())
				return b
			},
			write: func(name string, b []byte) {
				check(t, mem.Remove(name))
				f := must(mem.Create(name))(t)
				_, err := f.WriteAt(b, 0)
				check(t, errors.Join(err, f.Sync(), f.Close(), mem.SyncDir("journal")))
			},
			drop: func(log string) { check(t, mem.Remove("journal/"+log)) },
		},
	}
}

type maker struct {
	open  func() (Journal, error)
	files func(log string) []string
	read  func(name string) []byte
	write func(name string, b []byte)
	drop  func(log string)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T { t.Helper(); check(t, err); return v }
}

func realFiles(t testing.TB, dir string) []string {
	var out []string
	for _, n := range must(fileNames(dir))(t) {
		out = append(out, filepath.Join(dir, n))
	}
	return out
}

func group(i int) GroupID { return GroupID{byte(i), 7, 7} }

// flush syncs both scopes.
func flush(j Journal) error {
	for _, s := range []Scope{Hard, Marks} {
		if t := j.BeginSync(s); t != nil {
			err := t.Do()
			j.EndSync(t, err)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// clean is what a group's state says, without the journal's own numbers.
func clean(g GroupState) GroupState {
	return GroupState{Birth: g.Birth, HardState: g.HardState, Mark: g.Mark, Snapshot: g.Snapshot, HasBirth: g.HasBirth, HasHardState: g.HasHardState,
		HasMark: g.HasMark, HasSnapshot: g.HasSnapshot, Retired: g.Retired, HardStateLost: g.HardStateLost}
}

// twin of the table: what the last Put of each kind said.
type table map[GroupID]GroupState

func (w table) put(j Journal, rng *rand.Rand) {
	id := group(rng.IntN(5))
	g := w[id]
	g.Birth.Group = id
	n := rng.Uint64N(1000)
	switch k := rng.IntN(10); {
	case !g.HasBirth || k == 0:
		g.Birth, g.HasBirth = Birth{Group: id, ReplicaID: n, Settings: []byte(fmt.Sprint("settings ", n))}, true
		g.HardState, g.HasHardState = HardState{Term: n}, true
		j.PutBirth(g.Birth)
		j.PutHardState(id, g.HardState)
	case k < 5:
		g.HardState = HardState{Term: n, Vote: n % 3, Commit: n}
		j.PutHardState(id, g.HardState)
	case k == 5:
		g.Snapshot, g.HasSnapshot = SnapshotMark{Index: n, Term: n, Hash: [32]byte{byte(n)}, LogStart: int64(n)}, true
		g.Mark, g.HasMark = Mark{}, false
		j.PutSnapshotMark(id, g.Snapshot)
	default:
		g.Mark, g.HasMark = Mark{Index: n, Term: n, Position: int64(n), SegmentBase: n}, true
		j.PutMark(id, g.Mark)
	}
	w[id] = g
}

func (w table) differs(l Loaded) error {
	if len(l.Groups) != len(w) {
		return fmt.Errorf("%d groups, want %d", len(l.Groups), len(w))
	}
	for _, g := range l.Groups {
		got, want := clean(g), w[g.Birth.Group]
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("group %x: %+v, want %+v", g.Birth.Group[:1], got, want)
		}
	}
	return nil
}

// filled returns a closed journal after n random rounds, and what it holds.
func filled(t testing.TB, m *maker, rng *rand.Rand, n int) table {
	t.Helper()
	j := must(m.open())(t)
	w := table{}
	for range n {
		for range 1 + rng.IntN(3) {
			w.put(j, rng)
		}
		check(t, flush(j))
	}
	check(t, j.Close())
	return w
}

// Both makes hold the newest of everything over restarts and compactions.
func TestConformance(t *testing.T) {
	for name, m := range makes(t) {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			w := table{}
			for restart := range 6 {
				j := must(m.open())(t)
				l := must(j.Load())(t)
				if err := w.differs(l); err != nil || l.Damaged() || l.Torn > 0 || len(l.HardDamage) > 0 {
					t.Fatalf("restart %d: %v %+v", restart, err, l)
				}
				for range 50 {
					w.put(j, rng)
					if rng.IntN(3) == 0 {
						check(t, flush(j))
					}
				}
				if restart == 3 { // more than compactBytes of births
					id := group(9)
					for i := range 9 {
						g := w[id]
						g.Birth, g.HasBirth = Birth{Group: id, ReplicaID: uint64(i), Settings: make([]byte, recordBytesMax-100)}, true
						g.HardState, g.HasHardState = HardState{Term: 1}, true
						w[id] = g
						j.PutBirth(g.Birth)
						j.PutHardState(id, g.HardState)
						check(t, flush(j))
					}
					size := 0
					for _, f := range m.files("a") {
						size += len(m.read(f))
					}
					if size > compactBytes+2*recordBytesMax {
						t.Errorf("copy a has %d bytes: it was not compacted", size)
					}
				}
				if restart == 4 {
					j.Retire(group(9))
					g := GroupState{Retired: true}
					g.Birth.Group = group(9)
					w[group(9)] = g
					check(t, flush(j))
					// The last retirement outlives its births and hard states in the table until the next start.
					check(t, j.Close())
					j = must(m.open())(t)
					delete(w, group(9))
					if l := must(j.Load())(t); !slices.ContainsFunc(l.Groups, func(g GroupState) bool { return g.Birth.Group == group(9) && g.Retired }) {
						t.Error("the retired group is not named")
					}
					check(t, j.Close())
					return
				}
				check(t, flush(j))
				check(t, j.Close())
			}
		})
	}
}

// A snapshot mark voids the persist marks before it, those that a sync had taken already, too; a later one counts, also after the
// logs were written anew.
func TestSnapshotMarkVoidsMarks(t *testing.T) {
	for name, m := range makes(t) {
		t.Run(name, func(t *testing.T) {
			j := must(m.open())(t)
			g := group(1)
			j.PutBirth(Birth{Group: g, ReplicaID: 1})
			j.PutHardState(g, HardState{Term: 3})
			j.PutMark(g, Mark{Index: 90, Term: 3})
			taken := j.BeginSync(Marks)
			j.PutSnapshotMark(g, SnapshotMark{Index: 50, Term: 4})
			err := taken.Do()
			j.EndSync(taken, err)
			check(t, errors.Join(err, flush(j), j.Close()))
			j = must(m.open())(t)
			if l := must(j.Load())(t); l.Groups[0].HasMark || l.Groups[0].Snapshot.Index != 50 {
				t.Fatalf("the mark of the old log counts: %+v", l.Groups[0])
			}
			j.PutMark(g, Mark{Index: 60, Term: 4})
			check(t, flush(j))
			for range 9 { // the hard logs are written anew, with higher sequences than the mark's
				j.PutBirth(Birth{Group: group(2), ReplicaID: 1, Settings: make([]byte, recordBytesMax-100)})
				j.PutHardState(group(2), HardState{Term: 1})
				check(t, flush(j))
			}
			check(t, j.Close())
			j = must(m.open())(t)
			if l := must(j.Load())(t); l.Groups[0].Mark.Index != 60 {
				t.Fatalf("the mark of the new log does not count: %+v", l.Groups[0])
			}
			check(t, j.Close())
		})
	}
}

// One copy of the hard states with any byte flipped, cut anywhere, or gone: nothing is lost, and the copy is whole again. Of the persist
// marks the newest may be lost, and then that is said unless it looks like a torn write.
func TestEveryByteOfOneLog(t *testing.T) {
	for name, m := range makes(t) {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(2, 2))
			w := filled(t, m, rng, 6)
			damaged := 0
			for _, log := range []string{"a", "b", "marks"} {
				files := m.files(log)
				if len(files) != 1 {
					t.Fatalf("%s has files %v", log, files)
				}
				whole := m.read(files[0])
				step := 1
				if name == "wal" {
					step = 149 // real files and syncs
				}
				for at := 0; at < len(whole); at += step {
					for _, cut := range []bool{false, true} {
						b := slices.Clone(whole)
						if cut {
							b = b[:at]
						} else {
							b[at] ^= 1 << rng.IntN(8)
						}
						m.write(files[0], b)
						l := reload(t, m)
						if log != "marks" {
							if err := w.differs(l); err != nil {
								t.Fatalf("%s byte %d cut %t: %v %+v", log, at, cut, err, l)
							}
							if again := reload(t, m); len(again.HardDamage) > 0 || again.Torn > 0 {
								t.Fatalf("%s byte %d cut %t: not healed: %+v", log, at, cut, again)
							}
						} else if err := w.withoutMarks().differs(withoutMarks(l)); err != nil {
							t.Fatalf("%s byte %d cut %t: %v", log, at, cut, err)
						} else if err := w.differs(l); err != nil && !l.Damaged() && l.Torn == 0 && !cut {
							t.Fatalf("%s byte %d: marks were lost and nobody says so: %v", log, at, err)
						}
						if len(l.HardDamage) > 0 || l.MarksDamage {
							damaged++
						}
						// What the healing wrote is newer than the original bytes of this log: all three start over from them.
						w = refill(t, m, w)
						files = m.files(log)
						whole = m.read(files[0])
					}
				}
				m.drop(log)
				l := reload(t, m)
				if err := w.withoutMarks().differs(withoutMarks(l)); err != nil {
					t.Fatalf("%s gone: %v %+v", log, err, l)
				}
				if log == "marks" && !l.MarksDamage || log != "marks" && !slices.Equal(l.HardDamage, []string{log}) {
					t.Errorf("%s gone: %+v", log, l)
				}
				w = refill(t, m, w)
			}
			if damaged == 0 {
				t.Error("no damage was told from torn writes")
			}
		})
	}
}

func reload(t testing.TB, m *maker) Loaded {
	t.Helper()
	j := must(m.open())(t)
	l := must(j.Load())(t)
	check(t, j.Close())
	return l
}

// refill puts everything of w again, so that all logs hold it in more than one sync.
func refill(t testing.TB, m *maker, w table) table {
	t.Helper()
	j := must(m.open())(t)
	for i := range 5 {
		g, ok := w[group(i)]
		if !ok {
			continue
		}
		j.PutHardState(group(i), g.HardState)
		if g.HasMark {
			j.PutMark(group(i), g.Mark)
		}
		check(t, flush(j))
	}
	check(t, j.Close())
	return w
}

func (w table) withoutMarks() table {
	out := table{}
	for id, g := range w {
		g.Mark, g.HasMark = Mark{}, false
		out[id] = g
	}
	return out
}

func withoutMarks(l Loaded) Loaded {
	l.Groups = slices.Clone(l.Groups)
	for i := range l.Groups {
		l.Groups[i].Mark, l.Groups[i].HasMark = Mark{}, false
	}
	return l
}

// Both copies damaged: no replica of this directory votes again, not after the next start, and not after the logs were compacted.
func TestBothCopiesDamaged(t *testing.T) {
	for name, m := range makes(t) {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 3))
			w := filled(t, m, rng, 8)
			for _, log := range []string{"a", "b"} {
				f := m.files(log)[0]
				b := m.read(f)
				b[len(b)/2] ^= 4
				m.write(f, b)
			}
			for start := range 3 {
				j := must(m.open())(t)
				l := must(j.Load())(t)
				if start == 0 && len(l.HardDamage) != 2 {
					t.Fatalf("damage: %+v", l)
				}
				if len(l.Groups) == 0 {
					t.Fatal("no group is known any more")
				}
				for _, g := range l.Groups {
					if !g.HardStateLost {
						t.Fatalf("start %d: group %x may vote again: %+v", start, g.Birth.Group[:1], g)
					}
				}
				for id := range w {
					j.PutHardState(id, HardState{Term: 5000})
				}
				check(t, flush(j))
				for i := range 9 {
					j.PutBirth(Birth{Group: group(0), ReplicaID: uint64(i), Settings: make([]byte, recordBytesMax-100)})
					check(t, flush(j))
				}
				check(t, j.Close())
			}
		})
	}
}

// A journal of a newer program is refused, not guessed at.
func TestNewerVersionRefused(t *testing.T) {
	for name, m := range makes(t) {
		t.Run(name, func(t *testing.T) {
			filled(t, m, rand.New(rand.NewPCG(4, 4)), 4)
			for _, log := range []string{"a", "b", "marks"} {
				f := m.files(log)[0]
				b := m.read(f)
				k := 4
				if name == "wal" {
					k = 1
				}
				r := b[k : k+headBytes+2]
				r[headBytes]++
				le.PutUint32(r, sumOf(r))
				m.write(f, b)
			}
			if _, err := m.open(); err == nil {
				t.Fatal("opened")
			} else {
				t.Log(err)
			}
		})
	}
}

// A power cut at every change of the twin's files: what a sync covered is there, and a crash is never taken for damage.
func TestTwinCrash(t *testing.T) {
	seed := uint64(1)
	t.Logf("seed %d", seed)
	for s := seed; s < seed+4; s++ {
		for at := 1; ; at++ {
			mem := vfs.NewMem()
			n := 0
			errPower := errors.New("power")
			fs := vfs.Inject(mem, vfs.InjectorFunc(func(c vfs.Call) vfs.Fault {
				if c.Op.Changes() {
					n++
				}
				if n >= at {
					return vfs.Fault{Err: errPower, Short: c.Bytes / 2}
				}
				return vfs.Fault{}
			}))
			rng := rand.New(rand.NewPCG(s, 1))
			acked, last := table{}, table{}
			err := func() error {
				j, err := OpenTwin(fs, "journal")
				if err != nil {
					return err
				}
				for range 12 {
					last.put(j, rng)
					if err := flush(j); err != nil {
						return err
					}
					acked = table{}
					for id, g := range last {
						acked[id] = g
					}
				}
				return j.Close()
			}()
			if err != nil && !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			m := &maker{open: func() (Journal, error) { return OpenTwin(mem, "journal") }}
			mem = mem.Crash(rand.New(rand.NewPCG(s, uint64(at))))
			l := reload(t, m)
			if l.Damaged() || len(l.HardDamage) > 0 {
				t.Fatalf("seed %d crash at %d: a crash was taken for damage: %+v", s, at, l)
			}
			if e1, e2 := acked.differs(l), last.differs(l); e1 != nil && e2 != nil {
				// A round that was under way may have come through in part: each kind of each group is the old or the new one.
				for id, g := range acked {
					i := slices.IndexFunc(l.Groups, func(x GroupState) bool { return x.Birth.Group == id })
					if i < 0 || l.Groups[i].HardState != g.HardState && l.Groups[i].HardState != last[id].HardState {
						t.Fatalf("seed %d crash at %d: %v; %v", s, at, e1, e2)
					}
				}
			}
			if err == nil {
				break
			}
		}
	}
}
