package node

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

var quiet = slog.New(slog.DiscardHandler)

func item(t testing.TB, id string, seq uint64, body string) snapshot.Item {
	t.Helper()
	it, err := snapshot.Make(snapshot.Key{Kind: snapshot.KindApplication, ID: id}, body)
	if err != nil {
		t.Fatal(err)
	}
	it.Seq = seq
	return it
}

func dead(id string, seq uint64) snapshot.Item {
	return snapshot.Item{Key: snapshot.Key{Kind: snapshot.KindApplication, ID: id}, Seq: seq, Deleted: true}
}

func at(seq uint64) snapshot.Version { return snapshot.Version{Epoch: 1, Seq: seq} }

func open(t testing.TB, dir string) (*Log, *State) {
	t.Helper()
	l, st, err := OpenLog(dir, "key", []string{"Default"}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, st
}

// content is id to body.
func content(st *State) map[string]string {
	m := map[string]string{}
	for _, it := range st.Items {
		m[it.ID] = strings.Trim(string(it.Body), `"`)
	}
	return m
}

func check(t *testing.T, st *State, v snapshot.Version, want map[string]string) {
	t.Helper()
	if got := content(st); st.Version != v || !maps.Equal(got, want) {
		t.Fatalf("version %v with %v, want %v with %v", st.Version, got, v, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLogKeepsTheNewestOfEachItem(t *testing.T) {
	dir := t.TempDir()
	l, st := open(t, dir)
	check(t, st, snapshot.Version{}, nil)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "one"), item(t, "b", 1, "two")}))
	must(t, l.Append(at(2), []snapshot.Item{item(t, "a", 2, "three"), dead("b", 2)}))
	must(t, l.Append(at(3), nil))
	must(t, l.Close())
	_, st = open(t, dir)
	check(t, st, at(3), map[string]string{"a": "three"})
}

func TestRewriteForgetsWhatWas(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "one")}))
	must(t, l.Rewrite(at(9), []snapshot.Item{item(t, "c", 9, "nine")}))
	must(t, l.Append(at(10), []snapshot.Item{item(t, "d", 10, "ten")}))
	must(t, l.Close())
	_, st := open(t, dir)
	check(t, st, at(10), map[string]string{"c": "nine", "d": "ten"})
}

// Whatever byte a crash cuts the file at, a whole version is left, and the log
// can be written on.
func TestTornTailAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "one")}))
	first := l.size
	must(t, l.Append(at(2), []snapshot.Item{item(t, "a", 2, "two"), item(t, "b", 2, "b")}))
	must(t, l.Close())
	whole, err := os.ReadFile(l.path)
	must(t, err)
	for cut := first; cut < int64(len(whole)); cut++ {
		d := t.TempDir()
		must(t, os.WriteFile(filepath.Join(d, logName), whole[:cut], 0o600))
		l, st := open(t, d)
		check(t, st, at(1), map[string]string{"a": "one"})
		if st.Gap || len(st.Damaged) > 0 {
			t.Fatalf("cut at %d: a torn tail is taken for damage", cut)
		}
		must(t, l.Append(at(3), []snapshot.Item{item(t, "c", 3, "three")}))
		must(t, l.Close())
		_, st = open(t, d)
		check(t, st, at(3), map[string]string{"a": "one", "c": "three"})
		must(t, os.RemoveAll(d))
	}
}

// A flipped bit anywhere is noticed: never is an item given out whose body is
// not what was written, and what is lost is named or leads to a resynchronisation.
func TestBitFlipAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "one"), item(t, "b", 1, "two")}))
	must(t, l.Append(at(2), []snapshot.Item{item(t, "c", 2, "three")}))
	must(t, l.Append(at(3), []snapshot.Item{item(t, "d", 3, "four")}))
	must(t, l.Close())
	whole, err := os.ReadFile(l.path)
	must(t, err)
	want := map[string]string{"a": "one", "b": "two", "c": "three", "d": "four"}
	named := 0
	for i := range whole {
		d := t.TempDir()
		b := slices.Clone(whole)
		b[i] ^= 1 << (i % 8)
		must(t, os.WriteFile(filepath.Join(d, logName), b, 0o600))
		l, st, err := OpenLog(d, "key", []string{"Default"}, quiet)
		must(t, err)
		for id, body := range content(st) {
			if want[id] != body {
				t.Fatalf("byte %d: item %s reads %q", i, id, body)
			}
		}
		missing := len(want) - len(st.Items) - len(st.Damaged)
		if missing > 0 && !st.Gap && st.Version == at(3) {
			t.Fatalf("byte %d: %d items are missing unnoticed", i, missing)
		}
		if len(st.Damaged) > 0 {
			named++
			if st.Damaged[0].ID == "" || st.Damaged[0].Hash == "" {
				t.Fatalf("byte %d: the damaged item has no name", i)
			}
		}
		must(t, l.Close())
		must(t, os.RemoveAll(d))
	}
	if named == 0 {
		t.Error("no flip damaged a body")
	}
}

func TestCompactionKeepsTheLiveItems(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	l.slack = 1 << 10
	want := map[string]string{}
	for seq := uint64(1); seq <= 2000; seq++ {
		id := fmt.Sprint("app", seq%7)
		body := fmt.Sprint("body of ", seq)
		must(t, l.Append(at(seq), []snapshot.Item{item(t, id, seq, body)}))
		want[id] = body
	}
	must(t, l.Close()) // waits for a compaction that runs
	fi, err := os.Stat(l.path)
	must(t, err)
	if fi.Size() > 64<<10 {
		t.Errorf("2000 changes of 7 items take %d bytes", fi.Size())
	}
	_, st := open(t, dir)
	check(t, st, at(2000), want)
}

func TestCompactionLetsAppendsGoOn(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	for seq := uint64(1); seq <= 50; seq++ {
		must(t, l.Append(at(seq), []snapshot.Item{item(t, "a", seq, fmt.Sprint(seq))}))
	}
	done := make(chan error)
	go func() { done <- l.Compact() }()
	for seq := uint64(51); seq <= 200; seq++ {
		must(t, l.Append(at(seq), []snapshot.Item{item(t, "b", seq, fmt.Sprint(seq))}))
	}
	must(t, <-done)
	must(t, l.Append(at(201), []snapshot.Item{item(t, "c", 201, "c")}))
	must(t, l.Close())
	_, st := open(t, dir)
	check(t, st, at(201), map[string]string{"a": "50", "b": "200", "c": "c"})
}

func TestCrashDuringCompactionLeavesTheOldLog(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "one")}))
	w, err := l.newFile()
	must(t, err)
	must(t, w.flush())
	w.f.Close() // and nobody removes it
	must(t, l.Close())
	_, st := open(t, dir)
	check(t, st, at(1), map[string]string{"a": "one"})
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFailedWriteStopsTheLogUntilItIsRewritten(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "one")}))
	good := l.f
	ro, err := os.Open(l.path)
	must(t, err)
	l.f = ro
	if err := l.Append(at(2), []snapshot.Item{item(t, "a", 2, "two")}); err == nil {
		t.Fatal("a write to a read-only file succeeds")
	}
	l.f = good
	if err := l.Append(at(3), []snapshot.Item{item(t, "a", 3, "three")}); err == nil {
		t.Fatal("the log goes on after a failed write")
	}
	must(t, l.Rewrite(at(4), []snapshot.Item{item(t, "a", 4, "four")}))
	must(t, l.Append(at(5), []snapshot.Item{item(t, "b", 5, "five")}))
	ro.Close()
	must(t, l.Close())
	_, st := open(t, dir)
	check(t, st, at(5), map[string]string{"a": "four", "b": "five"})
}

func TestLogOfAnotherInstallationIsRefused(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "one")}))
	must(t, l.Close())
	if _, _, err := OpenLog(dir, "other", []string{"Default"}, quiet); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another master key: %v", err)
	}
	l, st, err := OpenLog(dir, "key", []string{"Default", "Other"}, quiet)
	must(t, err)
	defer l.Close()
	check(t, st, snapshot.Version{}, nil) // other environments: everything is fetched anew
}
