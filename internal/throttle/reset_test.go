package throttle

import (
	"testing"
	"time"
)

// A counter that began after a reset says so in what it keeps, so that hearing
// of the reset again after a restart takes nothing from it.
func TestResetHeardAgainTakesNothingCountedAfterIt(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	key := KeyOf(LevelApplication, "app", "alice")
	check := []Check{{Key: key, Level: LevelApplication, Limit: 3, Window: 24 * time.Hour, Policy: "3PerDay"}}
	l := New(Options{})
	l.Reset(at, key, at)
	for range 2 {
		if !l.Admit(at.Add(time.Minute), check).Allowed {
			t.Fatal("refused below the limit")
		}
	}
	kept := l.Snapshot(at.Add(time.Minute))

	next := New(Options{})
	next.Restore(kept)
	later := at.Add(2 * time.Minute)
	next.Reset(later, key, at) // the snapshot is read again
	if !next.Admit(later, check).Allowed {
		t.Error("third call refused")
	}
	if next.Admit(later, check).Allowed {
		t.Error("fourth call passed: the reset took what was counted after it")
	}
	next.Reset(later, key, later)
	if !next.Admit(later, check).Allowed {
		t.Error("refused after a new reset")
	}
}

func TestResetsAreForgotten(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	l := New(Options{})
	l.Reset(at, KeyOf(LevelApplication, "app", "alice"), at)
	l.Sweep(at.Add(time.Hour))
	if l.resets.n.Load() != 1 {
		t.Error("forgotten while it counts")
	}
	l.Sweep(at.Add(resetsKept + time.Hour))
	if l.resets.n.Load() != 0 {
		t.Error("kept for ever")
	}
}
