package throttle

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 22, 12, 0, 10, 0, time.UTC)

func key(s string) Key { return KeyOf(LevelApplication, s) }

func perMinute(name string, n int64) Check {
	return Check{Key: key(name), Level: LevelApplication, Limit: n, Window: time.Minute, Policy: fmt.Sprintf("%dPerMin", n)}
}

func TestExactlyTheLimitPassesInAWindowAndAgainInTheNext(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	cs := []Check{perMinute("a", 5)}
	for w := range 3 {
		now := noon.Add(time.Duration(w) * time.Minute)
		for i := range 8 {
			d := l.Admit(now, cs)
			if want := i < 5; d.Allowed != want {
				t.Fatalf("window %d, call %d: allowed %v, want %v", w, i, d.Allowed, want)
			}
			if want := int64(max(0, 4-i)); d.Remaining != want {
				t.Fatalf("window %d, call %d: remaining %d, want %d", w, i, d.Remaining, want)
			}
			if want := now.Truncate(time.Minute).Add(time.Minute); !d.Reset.Equal(want) {
				t.Fatalf("reset %v, want %v", d.Reset, want)
			}
			if d.Level != LevelApplication || d.Policy != "5PerMin" || d.Limit != 5 {
				t.Fatalf("decision does not name its limit: %+v", d)
			}
		}
	}
}

func TestARefusedCallIsCountedNowhere(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	api := Check{Key: KeyOf(LevelAPI, "x"), Level: LevelAPI, Limit: 10, Window: time.Minute}
	both := []Check{api, perMinute("a", 3)}
	for range 50 {
		l.Admit(noon, both)
	}
	if d := l.Peek(noon, []Check{api}); d.Remaining != 6 { // 3 passed; a next one would leave 6
		t.Errorf("api level has %d left, want 6", d.Remaining)
	}
	if d := l.Admit(noon, both); d.Allowed || d.Level != LevelApplication {
		t.Errorf("got %+v, want a refusal by the application level", d)
	}
}

func TestTheFirstLimitInOrderRefuses(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	a, b := perMinute("a", 1), perMinute("b", 1)
	a.Level, b.Level = LevelResource, LevelApplication
	l.Admit(noon, []Check{a, b})
	if d := l.Admit(noon, []Check{a, b}); d.Level != LevelResource {
		t.Errorf("refused by %v, want resource", d.Level)
	}
	if d := l.Admit(noon, []Check{b, a}); d.Level != LevelApplication {
		t.Errorf("refused by %v, want application", d.Level)
	}
}

func TestTwoChecksOnOneCounterTakeTwoPlaces(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	c := perMinute("a", 5)
	passed := 0
	for range 10 {
		if l.Admit(noon, []Check{c, c}).Allowed {
			passed++
		}
	}
	if passed != 2 {
		t.Errorf("%d calls of two places each passed a limit of 5, want 2", passed)
	}
}

func TestBandwidthServesTheCrossingCallAndRefusesTheNext(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	cs := []Check{{Key: key("a"), Level: LevelApplication, Kind: Bytes, Limit: 1000, Window: time.Minute}}
	for i, c := range []struct {
		body    int64
		allowed bool
	}{{600, true}, {0, true}, {600, true}, {1, false}, {0, false}} {
		d := l.Admit(noon, cs)
		if d.Allowed != c.allowed {
			t.Fatalf("call %d: allowed %v, want %v", i, d.Allowed, c.allowed)
		}
		if d.Allowed {
			l.Charge(noon, cs, Bytes, c.body)
		}
	}
	if !l.Admit(noon.Add(time.Minute), cs).Allowed {
		t.Error("the next window does not start from nothing")
	}
}

func TestSoftQuotaPassesAndMarks(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	c := perMinute("a", 2)
	c.Soft = true
	for i := range 4 {
		d := l.Admit(noon, []Check{c})
		if !d.Allowed || d.Marked != (i >= 2) {
			t.Errorf("call %d: %+v", i, d)
		}
	}
}

func TestNoLimitIsNotCounted(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	d := l.Admit(noon, []Check{{Key: key("a"), Limit: 0, Window: time.Minute}})
	if !d.Allowed || d.Level != LevelNone || l.Stats().Counters != 0 {
		t.Errorf("got %+v with %d counters", d, l.Stats().Counters)
	}
}

func TestExactlyTheLimitPassesWith64Callers(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{1, 63, 1000} {
		l := New(Options{Track: true})
		var passed atomic.Int64
		var wg sync.WaitGroup
		for g := range 64 {
			wg.Go(func() {
				// Half of the callers ask in the other order, and every caller has
				// a limit of its own that refuses some of what the shared one would let pass.
				mine := perMinute(fmt.Sprint("own", g), 20)
				cs := []Check{perMinute("shared", limit), mine, {Key: KeyOf(LevelAPI, "api"), Level: LevelAPI, Limit: limit, Window: time.Hour}}
				if g%2 == 0 {
					cs[0], cs[2] = cs[2], cs[0]
				}
				for range 40 {
					if l.Admit(noon, cs).Allowed {
						passed.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if got := passed.Load(); got != limit {
			t.Errorf("%d of a limit of %d passed", got, limit)
		}
	}
}

func TestALowerLevelThatRefusesNeverCostsAnotherCallerAPlace(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	shared := perMinute("shared", 100)
	full := perMinute("full", 1)
	l.Admit(noon, []Check{full})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { // always refused by its second limit
			for {
				select {
				case <-stop:
					return
				default:
					l.Admit(noon, []Check{shared, full})
				}
			}
		})
	}
	for i := range 100 {
		if !l.Admit(noon, []Check{shared}).Allowed {
			t.Errorf("call %d of 100 was refused because of a caller that was refused itself", i)
		}
	}
	close(stop)
	wg.Wait()
}

// A model of one map under one lock decides like the limiter, whatever the
// sequence of calls, charges, resets and clock steps.
func TestLimiterBehavesLikeItsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := New(Options{})
		type id struct {
			name string
			win  int64
		}
		model := map[id]int64{}
		now := noon
		names := []string{"a", "b", "c"}
		limits := map[string]int64{"a": 2, "b": 3, "c": 5}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			case 1:
				n := rapid.SampledFrom(names).Draw(t, "reset")
				now = now.Add(time.Millisecond)
				l.Reset(now, key(n), now)
				delete(model, id{n, Number(now, time.Minute)})
			default:
				order := rapid.Permutation(names).Draw(t, "order")[:rapid.IntRange(1, 3).Draw(t, "n")]
				var cs []Check
				want := true
				for _, n := range order {
					cs = append(cs, perMinute(n, limits[n]))
					want = want && model[id{n, Number(now, time.Minute)}] < limits[n]
				}
				if got := l.Admit(now, cs).Allowed; got != want {
					t.Fatalf("checks %v: allowed %v, want %v", order, got, want)
				}
				if want {
					for _, n := range order {
						model[id{n, Number(now, time.Minute)}]++
					}
				}
			}
			l.Sweep(now)
		}
	})
}

func TestAClockSetBackGivesNoFreshQuota(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour, 25 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			l := New(Options{})
			cs := []Check{perMinute("a", 3)}
			edge := noon.Truncate(time.Minute).Add(time.Minute)
			if n := admitted(l, edge, cs, 5); n != 3 {
				t.Fatalf("%d passed, want 3", n)
			}
			if n := admitted(l, edge.Add(-step), cs, 5); n != 0 {
				t.Errorf("%d more passed after the clock went back", n)
			}
			if n := admitted(l, edge.Add(-step).Add(time.Minute), cs, 5); step > time.Minute && n != 3 {
				t.Errorf("%d passed a minute later, want 3: the refusal must end with the real window", n)
			}
		})
	}
	t.Run("forward and back to the window before", func(t *testing.T) {
		l := New(Options{})
		cs := []Check{perMinute("a", 3)}
		admitted(l, noon, cs, 2)
		admitted(l, noon.Add(time.Minute), cs, 1)
		if n := admitted(l, noon, cs, 3); n != 0 {
			t.Errorf("%d passed, want 0: 2 and 1 are counted already", n)
		}
	})
}

func admitted(l *Limiter, now time.Time, cs []Check, calls int) (n int) {
	for range calls {
		if l.Admit(now, cs).Allowed {
			n++
		}
	}
	return n
}

func TestOffsetMovesTheWindows(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	l.SetOffset(55 * time.Second)
	if d := l.Admit(noon, []Check{perMinute("a", 3)}); !d.Reset.Equal(noon.Truncate(time.Minute).Add(2 * time.Minute)) {
		t.Errorf("window ends %v", d.Reset)
	}
}

func TestMemoryIsBoundedAndPastWindowsGoFirst(t *testing.T) {
	t.Parallel()
	l := New(Options{Max: 640})
	for i := range 5000 {
		l.Admit(noon, []Check{perMinute(fmt.Sprint("past", i), 3)})
	}
	st := l.Stats()
	if st.Counters > 640 || st.Evicted == 0 {
		t.Fatalf("%d counters, %d evicted, with a bound of 640", st.Counters, st.Evicted)
	}
	now := noon.Add(time.Minute)
	before := st.Evicted
	for i := range 300 {
		l.Admit(now, []Check{perMinute(fmt.Sprint("live", i), 3)})
	}
	if st := l.Stats(); st.Evicted != before {
		t.Errorf("%d live counters were dropped while past ones could go", st.Evicted-before)
	}
	l.Sweep(now.Add(time.Hour))
	if n := l.Stats().Counters; n != 0 {
		t.Errorf("%d counters left after all windows ended", n)
	}
}

func TestEvictionUnderLoadKeepsCountsOfBusyCounters(t *testing.T) {
	t.Parallel()
	l := New(Options{Max: 256})
	busy := perMinute("busy", 500)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 2 { // warm, so that the busy counter is never the least used
		if l.Admit(noon, []Check{busy}).Allowed {
			passed.Add(1)
		}
	}
	for g := range 8 {
		wg.Go(func() {
			for i := range 400 {
				l.Admit(noon, []Check{perMinute(fmt.Sprint(g, "-", i), 3)})
				if l.Admit(noon, []Check{busy}).Allowed {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != 500 {
		t.Errorf("%d passed, want 500", passed.Load())
	}
}

func TestSnapshotRestore(t *testing.T) {
	t.Parallel()
	a := New(Options{})
	cs := []Check{perMinute("a", 5)}
	admitted(a, noon, cs, 3)
	b := New(Options{})
	b.Restore(a.Snapshot(noon))
	if n := admitted(b, noon, cs, 10); n != 2 {
		t.Errorf("%d passed after restoring 3 of 5, want 2", n)
	}
}

func TestKeysTellPartsApart(t *testing.T) {
	t.Parallel()
	seen := map[Key]string{}
	for _, p := range [][]string{{"a", "bc"}, {"ab", "c"}, {"abc"}, {"", "abc"}, {"abc", ""}} {
		for _, lv := range []Level{LevelAPI, LevelApplication} {
			k, name := KeyOf(lv, p...), fmt.Sprint(lv, len(p), p)
			if o, dup := seen[k]; dup {
				t.Errorf("%s and %s share a key", o, name)
			}
			seen[k] = name
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	l := New(Options{Track: true})
	cs := fourChecks()
	l.Admit(noon, cs)
	if n := testing.AllocsPerRun(1000, func() { l.Admit(noon, cs) }); n != 0 {
		t.Errorf("Admit allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { KeyOf(LevelApplication, "0b1f1c3e-1111", "alice@carbon.super") }); n != 0 {
		t.Errorf("KeyOf allocates %v times", n)
	}
}

func fourChecks() []Check {
	const many = 1 << 60
	return []Check{
		{Key: KeyOf(LevelAPI, "/pizza:1.0"), Level: LevelAPI, Limit: many, Window: time.Minute, Policy: "50KPerMin"},
		{Key: KeyOf(LevelSubscription, "app", "/pizza:1.0", "Gold"), Level: LevelSubscription, Limit: many, Window: time.Minute, Policy: "Gold"},
		{Key: KeyOf(LevelBurst, "app", "/pizza:1.0", "Gold"), Level: LevelBurst, Limit: many, Window: time.Second, Local: true},
		{Key: KeyOf(LevelApplication, "app", "alice"), Level: LevelApplication, Limit: many, Window: time.Minute, Policy: "50PerMin"},
	}
}

func BenchmarkAdmitFourChecks(b *testing.B) {
	l := New(Options{Track: true})
	cs := fourChecks()
	now := noon
	b.ReportAllocs()
	for b.Loop() {
		l.Admit(now, cs)
	}
}

func BenchmarkAdmitFourChecksAmong100000Counters(b *testing.B) {
	l := New(Options{})
	sets := make([][]Check, 25_000)
	for i := range sets {
		sets[i] = fourChecks()
		for j := range sets[i] {
			sets[i][j].Key = KeyOf(sets[i][j].Level, fmt.Sprint(i))
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		l.Admit(noon, sets[i*7919%len(sets)])
		i++
	}
}

func BenchmarkAdmitParallelSharedCounters(b *testing.B) {
	l := New(Options{})
	cs := fourChecks()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Admit(noon, cs)
		}
	})
}

func BenchmarkKeyOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		KeyOf(LevelApplication, "0b1f1c3e-b8f2-4f6c-9a53-5e1f2a0d7e11", "alice@carbon.super")
	}
}
