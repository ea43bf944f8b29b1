// Package node is the life of a process that is told what to serve: it joins,
// follows the snapshot from any control node, keeps it on its own disk, and
// starts from there when every control node is away.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// Feed is where a gateway learns what to serve: the control node of the same
// process, or Client over the network.
type Feed interface {
	// Follow hands every delta after a version to fn, in order, until ctx ends or
	// something fails; fn's error ends it too.
	Follow(ctx context.Context, gw apim.GatewayNode, after snapshot.Version, fn func(snapshot.Delta) error) error
	// Ack says what the gateway runs; it is its sign of life as well.
	Ack(ctx context.Context, gw apim.GatewayNode) error
	// Body fetches what was too large for a delta.
	Body(ctx context.Context, hash string) ([]byte, error)
}

// Gateway is what a follower feeds. Apply compiles aside, swaps, and names the
// items that did not compile, each as "kind/id: cause".
type Gateway interface {
	Apply(full bool, v snapshot.Version, items []snapshot.Item) (failed []string)
}

// rewriteAfter is how long a disk that failed is left alone before the snapshot
// is fetched and written anew.
const rewriteAfter = 30 * time.Second

var errRewrite = errors.New("the snapshot on disk must be written anew")

// Options of a follower.
type Options struct {
	Dir       string           // of the log on disk
	Node      apim.GatewayNode // ID, Labels (environments) and Local
	KeyID     string           // fingerprint of the master key
	Feed      Feed
	Gateway   Gateway
	Log       *slog.Logger
	Heartbeat time.Duration   // between acknowledgements without news; 0: 1 s
	MaxWait   time.Duration   // longest back-off; 0: 5 s
	Warnings  func() []string // what of this process is not well; nil: nothing
}

// Follower keeps one gateway at the newest version it can learn of.
type Follower struct {
	o    Options
	disk *Log
	at   *State // what the disk held, until Load has applied it

	mu        sync.Mutex
	version   snapshot.Version
	failed    map[string]string // item to its line
	trouble   string            // of the disk
	troubleAt time.Time
	resync    bool // only a full snapshot will do
	loaded    atomic.Bool
	accepted  atomic.Bool // by a control node, since the start
	away      atomic.Bool // no control node answers
	news      chan struct{}
}

// NewFollower opens the log. ErrOtherKey means that this home holds the
// snapshot of another installation.
func NewFollower(o Options) (*Follower, error) {
	if o.Heartbeat <= 0 {
		o.Heartbeat = time.Second
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 5 * time.Second
	}
	disk, st, err := OpenLog(o.Dir, o.KeyID, o.Node.Labels, o.Log)
	if err != nil {
		return nil, err
	}
	return &Follower{o: o, disk: disk, at: st, failed: map[string]string{}, news: make(chan struct{}, 1)}, nil
}

// Load gives the gateway what the disk holds. Afterwards the gateway can serve
// unless the disk held nothing. It is called once, before Run.
func (f *Follower) Load(ctx context.Context) {
	st := f.at
	f.at = nil
	if st == nil || st.Version == (snapshot.Version{}) {
		return
	}
	start := time.Now()
	failed := f.o.Gateway.Apply(true, st.Version, st.Items)
	f.mu.Lock()
	f.version = st.Version
	f.note(true, st.Items, failed)
	for _, it := range st.Damaged {
		f.failed[it.Key.String()] = it.Key.String() + ": damaged on the disk of the gateway"
	}
	f.resync = st.Gap
	f.mu.Unlock()
	f.loaded.Store(true)
	f.o.Log.InfoContext(ctx, "snapshot loaded from disk", "version", st.Version.String(), "items", len(st.Items),
		"damaged", len(st.Damaged), "took", time.Since(start))
	f.at = &State{Damaged: st.Damaged}
}

// Loaded reports whether the gateway has had a whole snapshot, from the disk or
// from a control node.
func (f *Follower) Loaded() bool { return f.loaded.Load() }

// Version is what the gateway runs.
func (f *Follower) Version() snapshot.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version
}

// Failed lists what did not compile or could not be kept.
func (f *Follower) Failed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failures()
}

func (f *Follower) failures() []string {
	var out []string
	for _, line := range f.failed {
		out = append(out, line)
	}
	slices.Sort(out)
	if f.trouble != "" {
		out = append(out, f.trouble)
	}
	return out
}

// Run follows until ctx ends. It returns an error, ErrRefused, only when the
// first control node it reaches will not have this node: one that was accepted
// once serves on, whatever happens to the control nodes.
func (f *Follower) Run(ctx context.Context) error {
	acks, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { f.acknowledge(acks) })
	defer wg.Wait()
	defer stop()
	wait := time.Duration(0)
	for ctx.Err() == nil {
		started := time.Now()
		err := f.repairDamaged(ctx)
		if err == nil {
			err = f.follow(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, ErrRefused) && !f.accepted.Load() {
			return err
		}
		if time.Since(started) > 10*time.Second {
			wait = 0
		}
		if f.away.CompareAndSwap(false, true) {
			f.o.Log.WarnContext(ctx, "control node away, serving on", "version", f.Version().String(), "err", err)
		}
		wait = min(max(2*wait, 50*time.Millisecond), f.o.MaxWait)
		if !sleep(ctx, wait/2+rand.N(wait/2+1)) {
			break
		}
	}
	return nil
}

// repairDamaged fetches again what the disk had lost.
func (f *Follower) repairDamaged(ctx context.Context) error {
	if f.at == nil || len(f.at.Damaged) == 0 {
		return nil
	}
	var healed []snapshot.Item
	for _, it := range f.at.Damaged {
		body, err := f.o.Feed.Body(ctx, it.Hash)
		if isGone(err) {
			// Replaced meanwhile: following brings what took its place.
			continue
		}
		if err != nil {
			return fmt.Errorf("fetch damaged item %s: %w", it.Key, err)
		}
		it.Body = body
		if !it.Valid() {
			return fmt.Errorf("fetch damaged item %s: what came is damaged too", it.Key)
		}
		healed = append(healed, it)
	}
	f.at = nil
	if len(healed) == 0 {
		return nil
	}
	f.o.Log.InfoContext(ctx, "snapshot items repaired", "items", len(healed))
	f.take(ctx, false, f.Version(), healed)
	return nil
}

// follow applies one stream of deltas until it ends.
func (f *Follower) follow(ctx context.Context) error {
	after := f.Version()
	f.mu.Lock()
	if f.resync {
		after = snapshot.Version{}
	}
	f.mu.Unlock()
	var whole []snapshot.Item
	collecting := false
	return f.o.Feed.Follow(ctx, f.o.Node, after, func(d snapshot.Delta) error {
		f.accepted.Store(true)
		if f.away.CompareAndSwap(true, false) {
			f.o.Log.InfoContext(ctx, "control node is back", "version", d.Version.String())
		}
		if err := f.complete(ctx, d.Items); err != nil {
			return err
		}
		if d.Full {
			whole, collecting = nil, true
		}
		if collecting {
			whole = append(whole, d.Items...)
			if d.More {
				return nil
			}
			items := whole
			whole, collecting = nil, false
			f.take(ctx, true, d.Version, latest(items))
			return nil
		}
		f.mu.Lock()
		rewrite := f.trouble != "" && time.Since(f.troubleAt) > rewriteAfter
		f.mu.Unlock()
		if rewrite {
			return errRewrite
		}
		if len(d.Items) == 0 && d.Version == f.Version() {
			return nil // a heartbeat
		}
		f.take(ctx, false, d.Version, d.Items)
		return nil
	})
}

// latest keeps the last of each key and drops tombstones: while a full snapshot
// of many pages was read, items may have changed.
func latest(items []snapshot.Item) []snapshot.Item {
	last := make(map[snapshot.Key]int, len(items))
	for i := range items {
		last[items[i].Key] = i
	}
	out := items[:0]
	for i := range items {
		if last[items[i].Key] == i && !items[i].Deleted {
			out = append(out, items[i])
		}
	}
	return out
}

// complete fetches bodies that did not travel in the delta and checks all.
func (f *Follower) complete(ctx context.Context, items []snapshot.Item) error {
	for i := range items {
		it := &items[i]
		if it.Deleted {
			continue
		}
		if len(it.Body) == 0 && it.Size > 0 {
			body, err := f.o.Feed.Body(ctx, it.Hash)
			if err != nil {
				return fmt.Errorf("fetch item %s: %w", it.Key, err)
			}
			it.Body = body
		}
		if !it.Valid() {
			return fmt.Errorf("receive item %s: its checksum does not match", it.Key)
		}
	}
	return nil
}

// take brings the gateway and the disk to a version, then has it acknowledged.
func (f *Follower) take(ctx context.Context, full bool, v snapshot.Version, items []snapshot.Item) {
	var kept error
	done := make(chan struct{})
	go func() { // the disk is slow and the compiler too: neither waits for the other
		defer close(done)
		if full {
			kept = f.disk.Rewrite(v, items)
		} else {
			kept = f.disk.Append(v, items)
		}
	}()
	failed := f.o.Gateway.Apply(full, v, items)
	<-done
	f.mu.Lock()
	f.version = v
	f.note(full, items, failed)
	had := f.trouble
	if kept == nil {
		f.trouble = ""
	}
	if full {
		f.resync = false
	}
	if kept != nil {
		// The gateway runs the version, but a restart would fall behind it.
		if had == "" || full {
			f.troubleAt = time.Now()
		}
		f.trouble = "disk: " + kept.Error()
		f.resync = true
	}
	f.mu.Unlock()
	if kept != nil && had == "" {
		f.o.Log.ErrorContext(ctx, "snapshot not kept on disk", "version", v.String(), "err", kept)
	}
	for _, line := range failed {
		f.o.Log.ErrorContext(ctx, "item does not compile", "version", v.String(), "item", line)
	}
	f.loaded.Store(true)
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// note keeps the list of failures true. The caller holds mu.
func (f *Follower) note(full bool, items []snapshot.Item, failed []string) {
	if full {
		clear(f.failed)
	}
	for i := range items {
		k := items[i].Key
		delete(f.failed, k.String())
		delete(f.failed, string(k.Kind)+"/"+k.ID)
	}
	for _, line := range failed {
		name, _, _ := strings.Cut(line, ": ")
		f.failed[name] = line
	}
}

// acknowledge tells the control node what runs: at once after a change, and as
// a sign of life between.
func (f *Follower) acknowledge(ctx context.Context) {
	t := time.NewTicker(f.o.Heartbeat)
	defer t.Stop()
	silent := false
	for {
		err := f.o.Feed.Ack(ctx, f.row(true))
		if err != nil && ctx.Err() == nil && !silent {
			f.o.Log.DebugContext(ctx, "acknowledgement lost", "err", err)
		}
		silent = err != nil
		select {
		case <-ctx.Done():
			// Going away in good order: nobody needs to wait for this gateway.
			bye, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer stop()
			if err := f.o.Feed.Ack(bye, f.row(false)); err != nil {
				f.o.Log.DebugContext(ctx, "farewell lost", "err", err)
			}
			return
		case <-f.news:
		case <-t.C:
		}
	}
}

func (f *Follower) row(serving bool) apim.GatewayNode {
	gw := f.o.Node
	if f.o.Warnings != nil {
		gw.Warnings = f.o.Warnings()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	gw.Version = f.version.String()
	gw.Ready = serving && f.loaded.Load()
	gw.Failed = f.failures()
	return gw
}

// Close lets go of the disk; Run must have returned.
func (f *Follower) Close() error { return f.disk.Close() }

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
