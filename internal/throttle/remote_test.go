package throttle

import (
	"testing"
	"time"
)

func TestRemoteCountsTakeTheirShare(t *testing.T) {
	t.Parallel()
	l := New(Options{Track: true})
	c := perMinute("a", 10)
	cs := []Check{c}
	n := Number(noon, time.Minute)
	for _, s := range []struct {
		name   string
		do     func()
		calls  int
		passed int
	}{
		{"alone", func() {}, 2, 2},
		{"others used 5", func() { l.AddRemote(noon, c.Counter(), n, 0, 5) }, 2, 2},
		{"an older, smaller sum changes nothing", func() { l.AddRemote(noon, c.Counter(), n, 0, 1) }, 0, 0},
		{"a past window changes nothing", func() { l.AddRemote(noon, c.Counter(), n-1, 0, 100) }, 9, 1},
	} {
		s.do()
		if got := admitted(l, noon, cs, s.calls); got != s.passed {
			t.Fatalf("%s: %d passed, want %d", s.name, got, s.passed)
		}
	}
	if d := l.Admit(noon, cs); d.Allowed || !d.Remote {
		t.Errorf("got %+v, want a refusal that says others tipped it", d)
	}
	if got := admitted(l, noon.Add(time.Minute), cs, 20); got != 10 {
		t.Errorf("%d passed in the next window, want 10", got)
	}
}

func TestRemoteOfAnUnknownCounterIsRemembered(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	c := perMinute("a", 10)
	l.AddRemote(noon, c.Counter(), Number(noon, time.Minute), 0, 8)
	if got := admitted(l, noon, []Check{c}, 10); got != 2 {
		t.Errorf("%d passed, want 2", got)
	}
}

func TestRefusalEndsAtItsTime(t *testing.T) {
	t.Parallel()
	l := New(Options{})
	c := perMinute("a", 10)
	until := noon.Add(20 * time.Second)
	l.Refuse(noon, c.Counter(), 0, until)
	if d := l.Admit(noon, []Check{c}); d.Allowed || !d.Remote || !d.Reset.Equal(until) {
		t.Errorf("got %+v", d)
	}
	if d := l.Admit(until, []Check{c}); !d.Allowed {
		t.Errorf("still refused: %+v", d)
	}
	c.Soft = true
	if d := l.Admit(noon, []Check{c}); !d.Allowed || !d.Marked {
		t.Errorf("a soft limit refuses: %+v", d)
	}
	l.Refuse(noon, c.Counter(), 0, noon.Add(24*time.Hour)) // longer than its window: a broken clock
	c.Soft = false
	if d := l.Admit(until, []Check{c}); !d.Allowed {
		t.Errorf("refused for longer than a window: %+v", d)
	}
}

func TestChangesReportTotalsOnce(t *testing.T) {
	t.Parallel()
	l := New(Options{Track: true})
	local := perMinute("burst", 100)
	local.Local = true
	admitted(l, noon, []Check{perMinute("a", 10), local}, 3)
	got := l.Changes(nil)
	if len(got) != 1 || got[0].Used != 3 || got[0].Limit != 10 || got[0].Number != Number(noon, time.Minute) {
		t.Fatalf("changes %+v, want one of 3 used", got)
	}
	if got := l.Changes(nil); len(got) != 0 {
		t.Errorf("reported again: %+v", got)
	}
	admitted(l, noon, []Check{perMinute("a", 10)}, 1)
	if got := l.Changes(nil); len(got) != 1 || got[0].Used != 4 {
		t.Errorf("changes %+v, want the total of 4", got)
	}
	if got := l.All(noon); len(got) != 1 {
		t.Errorf("all: %+v, want the one that is shared", got)
	}
}

func TestResetClearsOneKeyHereAndTravels(t *testing.T) {
	t.Parallel()
	a, b := New(Options{Track: true}), New(Options{Track: true})
	c, other := perMinute("a", 3), perMinute("b", 3)
	bytes := c
	bytes.Kind = Bytes
	n := Number(noon, time.Minute)
	for _, l := range []*Limiter{a, b} {
		admitted(l, noon, []Check{c}, 3)
		admitted(l, noon, []Check{other}, 3)
		l.Charge(noon, []Check{bytes}, Bytes, 50)
		l.AddRemote(noon, c.Counter(), n, 0, 3)
	}
	at := noon.Add(time.Second)
	a.Reset(at, c.Key, at)
	if !a.Peek(at, []Check{bytes}).Allowed {
		t.Error("bandwidth of the key is not reset")
	}
	if a.Admit(at, []Check{other}).Allowed {
		t.Error("another key was reset too")
	}
	if got := admitted(a, at, []Check{c}, 9); got != 3 {
		t.Errorf("%d passed after the reset, want 3", got)
	}
	a.Reset(at, c.Key, at) // the same reset again, as a snapshot repeats it
	if a.Admit(at, []Check{c}).Allowed {
		t.Error("the repeated reset gave a fresh quota")
	}
	a.AddRemote(at, c.Counter(), n, 0, 3) // a sum from before the reset, late
	gen := at.UnixNano()
	b.AddRemote(at, c.Counter(), n, gen, 1)
	if got := admitted(b, at, []Check{c}, 9); got != 2 {
		t.Errorf("%d passed on the other gateway, want 2: it must learn the reset and 1 used", got)
	}
}
