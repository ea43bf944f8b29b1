package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// feed is a control node by script: each call of Follow plays the next scene.
type feed struct {
	mu     sync.Mutex
	scenes []func(after snapshot.Version, fn func(snapshot.Delta) error) error
	afters []snapshot.Version
	acks   []apim.GatewayNode
	bodies map[string][]byte
}

func (f *feed) Follow(ctx context.Context, _ apim.GatewayNode, after snapshot.Version, fn func(snapshot.Delta) error) error {
	f.mu.Lock()
	f.afters = append(f.afters, after)
	var scene func(snapshot.Version, func(snapshot.Delta) error) error
	if len(f.scenes) > 0 {
		scene, f.scenes = f.scenes[0], f.scenes[1:]
	}
	f.mu.Unlock()
	if scene != nil {
		if err := scene(after, fn); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (f *feed) Ack(_ context.Context, gw apim.GatewayNode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acks = append(f.acks, gw)
	return nil
}

func (f *feed) Body(_ context.Context, hash string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b, ok := f.bodies[hash]; ok {
		return b, nil
	}
	return nil, ErrGone
}

func (f *feed) last() apim.GatewayNode {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.acks) == 0 {
		return apim.GatewayNode{}
	}
	return f.acks[len(f.acks)-1]
}

func (f *feed) after(i int) (snapshot.Version, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.afters) <= i {
		return snapshot.Version{}, false
	}
	return f.afters[i], true
}

type target struct {
	mu    sync.Mutex
	items map[string]string
	calls []string // "full" or "delta"
}

func (g *target) Apply(full bool, _ snapshot.Version, items []snapshot.Item) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if full || g.items == nil {
		g.items = map[string]string{}
	}
	g.calls = append(g.calls, map[bool]string{true: "full", false: "delta"}[full])
	var failed []string
	for _, it := range items {
		body := strings.Trim(string(it.Body), `"`)
		if it.Deleted {
			delete(g.items, it.ID)
			continue
		}
		if strings.HasPrefix(body, "bad") {
			failed = append(failed, it.Key.String()+": does not compile")
			continue
		}
		g.items[it.ID] = body
	}
	return failed
}

func (g *target) get(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.items[id]
}

func (g *target) log() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.calls, " ")
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// run loads and follows until stop.
func run(t *testing.T, dir string, fd *feed, g *target) (f *Follower, stop func()) {
	t.Helper()
	f, err := NewFollower(Options{
		Dir: dir, Node: apim.GatewayNode{ID: "gw", Labels: []string{"Default"}}, KeyID: "key", Feed: fd, Gateway: g, Log: quiet,
		Heartbeat: 10 * time.Millisecond, MaxWait: 20 * time.Millisecond,
	})
	must(t, err)
	f.Load(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done; f.Close() }) }
	t.Cleanup(stop)
	return f, stop
}

func play(ds ...snapshot.Delta) func(snapshot.Version, func(snapshot.Delta) error) error {
	return func(_ snapshot.Version, fn func(snapshot.Delta) error) error {
		for _, d := range ds {
			if err := fn(d); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestFullSnapshotInPiecesIsAppliedOnce(t *testing.T) {
	g := &target{}
	fd := &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{play(
		snapshot.Delta{Version: at(5), Full: true, More: true, Items: []snapshot.Item{item(t, "a", 1, "one"), item(t, "b", 2, "two")}},
		snapshot.Delta{Version: at(5), More: true, Items: []snapshot.Item{item(t, "c", 3, "three")}},
		snapshot.Delta{Version: at(5), Items: []snapshot.Item{item(t, "a", 4, "newer"), dead("b", 5)}},
	)}}
	dir := t.TempDir()
	_, stop := run(t, dir, fd, g)
	soon(t, "the version is acknowledged", func() bool { a := fd.last(); return a.Version == "1.5" && a.Ready })
	if g.log() != "full" || g.get("a") != "newer" || g.get("b") != "" || g.get("c") != "three" {
		t.Errorf("calls %q, items %v", g.log(), g.items)
	}
	stop()
	if a := fd.last(); a.Ready {
		t.Error("no farewell: receipts would wait for a gateway that left")
	}
	_, st := open(t, dir)
	check(t, st, at(5), map[string]string{"a": "newer", "c": "three"})
}

func TestPiecesThatBreakOffAreForgotten(t *testing.T) {
	g := &target{}
	cut := errors.New("connection lost")
	fd := &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{
		func(_ snapshot.Version, fn func(snapshot.Delta) error) error {
			return errors.Join(fn(snapshot.Delta{Version: at(5), Full: true, More: true, Items: []snapshot.Item{item(t, "half", 1, "x")}}), cut)
		},
		play(snapshot.Delta{Version: at(6), Full: true, Items: []snapshot.Item{item(t, "a", 1, "one")}}),
	}}
	run(t, t.TempDir(), fd, g)
	soon(t, "the second attempt is applied", func() bool { return g.get("a") == "one" })
	if g.log() != "full" || g.get("half") != "" {
		t.Errorf("calls %q, items %v", g.log(), g.items)
	}
}

func TestItemDamagedOnTheWayIsNotApplied(t *testing.T) {
	g := &target{}
	bad := item(t, "a", 1, "one")
	bad.Body = []byte(`"two"`)
	fd := &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{
		play(snapshot.Delta{Version: at(1), Full: true, Items: []snapshot.Item{bad}}),
		play(snapshot.Delta{Version: at(1), Full: true, Items: []snapshot.Item{item(t, "a", 1, "one")}}),
	}}
	run(t, t.TempDir(), fd, g)
	soon(t, "the second attempt is applied", func() bool { return g.get("a") == "one" })
	if g.log() != "full" {
		t.Errorf("calls %q", g.log())
	}
}

func TestFailuresAreReportedUntilTheyAreGone(t *testing.T) {
	g := &target{}
	next := make(chan struct{})
	fd := &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{
		func(_ snapshot.Version, fn func(snapshot.Delta) error) error {
			if err := fn(snapshot.Delta{Version: at(1), Full: true, Items: []snapshot.Item{item(t, "a", 1, "bad"), item(t, "b", 1, "good")}}); err != nil {
				return err
			}
			<-next
			if err := fn(snapshot.Delta{Version: at(2), Items: []snapshot.Item{item(t, "c", 2, "good")}}); err != nil {
				return err
			}
			return fn(snapshot.Delta{Version: at(3), Items: []snapshot.Item{item(t, "a", 3, "good")}})
		},
	}}
	run(t, t.TempDir(), fd, g)
	soon(t, "the failure is reported", func() bool { f := fd.last().Failed; return len(f) == 1 && f[0] == "app/a: does not compile" })
	close(next)
	soon(t, "the repair is reported", func() bool { a := fd.last(); return a.Version == "1.3" && len(a.Failed) == 0 })
	seen := false
	fd.mu.Lock()
	for _, a := range fd.acks {
		seen = seen || (a.Version == "1.2" && len(a.Failed) == 0)
	}
	fd.mu.Unlock()
	if seen {
		t.Error("another item's delta hides the failure")
	}
}

// flip damages the body of an item in the log.
func flip(t *testing.T, dir, body string) {
	t.Helper()
	name := filepath.Join(dir, logName)
	b, err := os.ReadFile(name)
	must(t, err)
	i := bytes.LastIndex(b, []byte(body))
	if i < 0 {
		t.Fatalf("%q is not in the log", body)
	}
	b[i] ^= 4
	must(t, os.WriteFile(name, b, 0o600))
}

func TestBitFlipOnDiskIsNamedAndFetchedAgain(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "first"), item(t, "b", 1, "second")}))
	must(t, l.Close())
	flip(t, dir, "second")
	g := &target{}
	lost := item(t, "b", 1, "second")
	fd := &feed{bodies: map[string][]byte{}}
	f, stop := run(t, dir, fd, g)
	if !f.Loaded() || g.get("a") != "first" || g.get("b") != "" {
		t.Fatalf("from the damaged disk: %v", g.items)
	}
	soon(t, "the damage is named", func() bool { f := fd.last().Failed; return len(f) == 1 && strings.HasPrefix(f[0], "app/b: ") })
	stop()
	fd.bodies[lost.Hash] = lost.Body
	g = &target{}
	_, stop = run(t, dir, fd, g)
	soon(t, "the item is whole again", func() bool { return g.get("b") == "second" && len(fd.last().Failed) == 0 })
	stop()
	_, st := open(t, dir)
	check(t, st, at(1), map[string]string{"a": "first", "b": "second"})
	if len(st.Damaged) != 0 {
		t.Errorf("still damaged: %v", st.Damaged)
	}
}

func TestGapOnDiskLeadsToAFullResynchronisation(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	must(t, l.Append(at(1), []snapshot.Item{item(t, "a", 1, "first")}))
	must(t, l.Append(at(2), []snapshot.Item{item(t, "b", 2, "second")}))
	must(t, l.Append(at(3), []snapshot.Item{item(t, "c", 3, "third")}))
	must(t, l.Close())
	flip(t, dir, `"i":"b"`) // inside of the name: the frame is lost
	g := &target{}
	fd := &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{
		play(snapshot.Delta{Version: at(3), Full: true, Items: []snapshot.Item{item(t, "a", 1, "first"), item(t, "b", 2, "second"), item(t, "c", 3, "third")}}),
	}}
	f, stop := run(t, dir, fd, g)
	if !f.Loaded() {
		t.Error("nothing is served meanwhile")
	}
	soon(t, "everything is there", func() bool { return g.get("b") == "second" })
	if v, _ := fd.after(0); v != (snapshot.Version{}) {
		t.Errorf("follows after %v, want from the start", v)
	}
	stop()
	_, st := open(t, dir)
	check(t, st, at(3), map[string]string{"a": "first", "b": "second", "c": "third"})
}

func TestFullDiskDoesNotStopTheGateway(t *testing.T) {
	g := &target{}
	next := make(chan struct{})
	fd := &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{
		func(_ snapshot.Version, fn func(snapshot.Delta) error) error {
			if err := fn(snapshot.Delta{Version: at(1), Full: true, Items: []snapshot.Item{item(t, "a", 1, "one")}}); err != nil {
				return err
			}
			<-next
			return fn(snapshot.Delta{Version: at(2), Items: []snapshot.Item{item(t, "b", 2, "two")}})
		},
	}}
	f, _ := run(t, t.TempDir(), fd, g)
	soon(t, "the first version runs", func() bool { return fd.last().Version == "1.1" })
	ro, err := os.Open(f.disk.path)
	must(t, err)
	f.disk.mu.Lock()
	f.disk.f.Close()
	f.disk.f = ro // writing fails from here on
	f.disk.mu.Unlock()
	close(next)
	soon(t, "the change is served, and the disk is named", func() bool {
		a := fd.last()
		return g.get("b") == "two" && a.Version == "1.2" && len(a.Failed) == 1 && strings.HasPrefix(a.Failed[0], "disk: ")
	})
}

func TestFollowingResumesAfterTheLastVersion(t *testing.T) {
	g := &target{}
	cut := errors.New("connection lost")
	fd := &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{
		func(_ snapshot.Version, fn func(snapshot.Delta) error) error {
			return errors.Join(fn(snapshot.Delta{Version: at(7), Full: true, Items: []snapshot.Item{item(t, "a", 7, "one")}}), cut)
		},
	}}
	dir := t.TempDir()
	_, stop := run(t, dir, fd, g)
	soon(t, "it follows again", func() bool { v, ok := fd.after(1); return ok && v == at(7) })
	stop()
	fd2 := &feed{}
	run(t, dir, fd2, &target{})
	soon(t, "it follows after a restart", func() bool { v, ok := fd2.after(0); return ok && v == at(7) })
}

func TestRefusedOnceAcceptedServesOn(t *testing.T) {
	g := &target{}
	refuse := func(snapshot.Version, func(snapshot.Delta) error) error { return ErrRefused }
	fd := &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{
		func(_ snapshot.Version, fn func(snapshot.Delta) error) error {
			return errors.Join(fn(snapshot.Delta{Version: at(1), Full: true, Items: []snapshot.Item{item(t, "a", 1, "one")}}), errors.New("cut"))
		},
		refuse, refuse,
		play(snapshot.Delta{Version: at(2), Items: []snapshot.Item{item(t, "b", 2, "two")}}),
	}}
	run(t, t.TempDir(), fd, g) // fails the test if Run returns an error
	soon(t, "it follows after the refusals", func() bool { return g.get("b") == "two" })

	f, err := NewFollower(Options{
		Dir: t.TempDir(), KeyID: "key", Log: quiet, Gateway: &target{},
		Feed: &feed{scenes: []func(snapshot.Version, func(snapshot.Delta) error) error{refuse}},
	})
	must(t, err)
	defer f.Close()
	if err := f.Run(t.Context()); !errors.Is(err, ErrRefused) {
		t.Errorf("refused from the start: %v", err)
	}
}
