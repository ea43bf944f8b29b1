package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

const (
	logName = "snapshot.log"
	// A log is compacted when it is this much larger than twice what the last
	// compaction left, in bytes.
	compactSlack = 4 << 20
)

// Log is the snapshot on a gateway's disk: an append log of items that is
// compacted in the background. A delta counts once its commit is on the disk.
type Log struct {
	log   *slog.Logger
	path  string
	head  logHead
	slack int64

	mu      sync.Mutex
	f       *os.File
	size    int64 // bytes that count; what lies behind them is void
	base    int64 // size after the last compaction
	broken  error // a write failed: nothing may be appended before a rewrite
	compact chan struct{}
	closed  bool
	wg      sync.WaitGroup
}

// State is what a log held when it was opened.
type State struct {
	Version snapshot.Version
	Items   []snapshot.Item // live ones, bodies included
	Damaged []snapshot.Item // live ones whose body does not check, without bodies
	Gap     bool            // bytes in the middle were lost: only a full resynchronisation tells what they said
}

// ErrOtherKey says that a log was written under another master key, so that
// the secrets in it could not be opened.
var ErrOtherKey = errors.New("the snapshot was written under another master key")

// OpenLog opens or makes the log in dir. Whatever a crash or bad disk left is
// repaired as far as it goes and reported in State and to the logger: a torn
// tail is cut off, a damaged item is named, reading goes on behind a gap.
func OpenLog(dir, keyID string, envs []string, log *slog.Logger) (*Log, *State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("open snapshot log: %w", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".snapshot-*")); err == nil {
		for _, name := range left {
			os.Remove(name) // of a rewrite that a crash ended; the log itself is whole
		}
	}
	envs = slices.Sorted(slices.Values(envs))
	l := &Log{log: log, path: filepath.Join(dir, logName), head: logHead{keyID, envs}, slack: compactSlack, compact: make(chan struct{}, 1)}
	f, err := os.OpenFile(l.path, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := l.Rewrite(snapshot.Version{}, nil); err != nil {
			return nil, nil, err
		}
		return l, &State{}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot log: %w", err)
	}
	st, err := l.load(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	if st == nil { // not a log of this gateway as it is configured now
		f.Close()
		if err := l.Rewrite(snapshot.Version{}, nil); err != nil {
			return nil, nil, err
		}
		return l, &State{}, nil
	}
	l.f = f
	return l, st, nil
}

type live struct {
	item snapshot.Item
	fr   frame
}

// scan walks the frames of the file and gives the state at the last commit,
// and where that ends. Bodies stay on the disk.
func scan(f *os.File, size int64, log *slog.Logger) (items map[snapshot.Key]live, v snapshot.Version, head *logHead, end int64, gap bool, err error) {
	items = map[snapshot.Key]live{}
	var staged []live
	reset := false
	for off := int64(0); off < size; {
		fr, next, err := readFrame(f, off, size)
		if errors.Is(err, errBroken) {
			// A torn tail has no frame behind it; damage in the middle does.
			to, ok := nextFrame(f, off+1, size)
			if !ok {
				break
			}
			log.Error("snapshot log damaged", "offset", off, "bytes", to-off)
			gap, off = true, to
			continue
		}
		if err != nil {
			return nil, v, nil, 0, false, err
		}
		off = next
		switch fr.kind {
		case frameHead:
			head = &logHead{}
			if err := json.Unmarshal(fr.meta, head); err != nil {
				return nil, v, nil, 0, false, fmt.Errorf("read snapshot log: head: %w", err)
			}
			end = off
		case frameReset:
			staged, reset = nil, true
		case frameItem:
			var l live
			if err := json.Unmarshal(fr.meta, &l.item); err != nil {
				return nil, v, nil, 0, false, fmt.Errorf("read snapshot log: item at %d: %w", fr.at, err)
			}
			fr.meta, fr.body = nil, nil
			l.fr = fr
			staged = append(staged, l)
		case frameCommit:
			if err := json.Unmarshal(fr.meta, &v); err != nil {
				return nil, v, nil, 0, false, fmt.Errorf("read snapshot log: commit at %d: %w", fr.at, err)
			}
			if reset {
				clear(items)
			}
			for _, l := range staged {
				if l.item.Deleted {
					delete(items, l.item.Key)
				} else {
					items[l.item.Key] = l
				}
			}
			staged, reset, end = nil, false, off
		}
	}
	return items, v, head, end, gap, nil
}

// load reads the whole log. A nil State means that it is of no use here.
func (l *Log) load(f *os.File) (*State, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open snapshot log: %w", err)
	}
	items, v, head, end, gap, err := scan(f, fi.Size(), l.log)
	if err != nil {
		return nil, err
	}
	if head == nil {
		if len(items) == 0 {
			return nil, nil
		}
		// The head itself is damaged: the items are checked by their hashes anyway.
		gap = true
	} else {
		if head.Key != l.head.Key {
			return nil, fmt.Errorf("open snapshot log %s: %w (fingerprint %s, this node has %s)", l.path, ErrOtherKey, head.Key, l.head.Key)
		}
		if !slices.Equal(head.Envs, l.head.Envs) {
			return nil, nil
		}
	}
	if end < fi.Size() {
		l.log.Warn("snapshot log had a torn tail", "bytes", fi.Size()-end)
		if err := errors.Join(f.Truncate(end), f.Sync()); err != nil {
			return nil, fmt.Errorf("repair snapshot log: %w", err)
		}
	}
	l.size, l.base = end, end
	st := &State{Version: v, Gap: gap, Items: make([]snapshot.Item, 0, len(items))}
	for _, x := range items {
		it := x.item
		if x.fr.bodyLen > 0 {
			b := make([]byte, x.fr.bodyLen)
			if _, err := f.ReadAt(b, x.fr.bodyAt); err != nil {
				return nil, fmt.Errorf("read snapshot log: %w", err)
			}
			it.Body = b
		}
		if x.fr.damaged || !it.Valid() {
			l.log.Error("snapshot item damaged", "item", it.Key.String(), "offset", x.fr.at)
			it.Body = nil
			st.Damaged = append(st.Damaged, it)
			continue
		}
		st.Items = append(st.Items, it)
	}
	slices.SortFunc(st.Items, bySeq)
	return st, nil
}

func bySeq(a, b snapshot.Item) int {
	switch {
	case a.Seq < b.Seq:
		return -1
	case a.Seq > b.Seq:
		return 1
	}
	return 0
}

// Append writes the items of a delta and its version, and returns when the
// items are on the disk. After a failure only Rewrite helps.
func (l *Log) Append(v snapshot.Version, items []snapshot.Item) error {
	var buf bytes.Buffer
	for _, it := range items {
		if err := putItem(&buf, it); err != nil {
			return fmt.Errorf("append to snapshot log: %w", err)
		}
	}
	if err := putFrame(&buf, frameCommit, v, nil); err != nil {
		return fmt.Errorf("append to snapshot log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	_, err := l.f.WriteAt(buf.Bytes(), l.size)
	if err == nil && len(items) > 0 { // a bare version lost with the power is learned again
		err = l.f.Sync()
	}
	if err != nil {
		// What a failed sync left on the disk is unknown: nothing may follow it.
		l.broken = fmt.Errorf("append to snapshot log: %w", err)
		return l.broken
	}
	l.size += int64(buf.Len())
	if l.size > 2*l.base+l.slack {
		select {
		case l.compact <- struct{}{}:
			l.wg.Add(1)
			go func() {
				defer l.wg.Done()
				defer func() { <-l.compact }()
				if err := l.Compact(); err != nil {
					l.log.Error("snapshot log not compacted", "err", err)
				}
			}()
		default:
		}
	}
	return nil
}

// Rewrite replaces the log by these items.
func (l *Log) Rewrite(v snapshot.Version, items []snapshot.Item) error {
	w, err := l.newFile()
	if err != nil {
		return err
	}
	for _, it := range items {
		if err := w.item(it); err != nil {
			w.abandon()
			return fmt.Errorf("rewrite snapshot log: %w", err)
		}
	}
	if err := w.commit(v); err != nil {
		w.abandon()
		return fmt.Errorf("rewrite snapshot log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.swap(w)
}

// Compact writes the live items to a new file beside the log, lets appends go
// on meanwhile, and exchanges the two.
func (l *Log) Compact() error {
	l.mu.Lock()
	size, old, broken := l.size, l.f, l.broken
	l.mu.Unlock()
	if broken != nil {
		return broken
	}
	items, v, _, end, _, err := scan(old, size, l.log)
	if err != nil {
		return err
	}
	w, err := l.newFile()
	if err != nil {
		return err
	}
	keep := make([]live, 0, len(items))
	for _, x := range items {
		keep = append(keep, x)
	}
	slices.SortFunc(keep, func(a, b live) int { return bySeq(a.item, b.item) })
	for _, x := range keep {
		if x.fr.bodyLen > 0 {
			b := make([]byte, x.fr.bodyLen)
			if _, err := old.ReadAt(b, x.fr.bodyAt); err != nil {
				w.abandon()
				return fmt.Errorf("compact snapshot log: %w", err)
			}
			x.item.Body = b
		}
		if !x.item.Valid() {
			// Left out here, it comes back by the next full resynchronisation at the latest.
			l.log.Error("snapshot item damaged", "item", x.item.Key.String(), "offset", x.fr.at)
			continue
		}
		if err := w.item(x.item); err != nil {
			w.abandon()
			return fmt.Errorf("compact snapshot log: %w", err)
		}
	}
	if err := w.commit(v); err != nil {
		w.abandon()
		return fmt.Errorf("compact snapshot log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != old || l.broken != nil || l.closed {
		w.abandon() // rewritten meanwhile
		return nil
	}
	if err := w.copy(io.NewSectionReader(old, end, l.size-end)); err != nil {
		w.abandon()
		return fmt.Errorf("compact snapshot log: %w", err)
	}
	return l.swap(w)
}

// swap makes the new file the log. The caller holds mu.
func (l *Log) swap(w *newLog) error {
	if err := w.finish(l.path); err != nil {
		return fmt.Errorf("rewrite snapshot log: %w", err)
	}
	if l.f != nil {
		l.f.Close() // read only from here on; its bytes no longer matter
	}
	l.f, l.size, l.base, l.broken = w.f, w.size, w.base, nil
	return nil
}

// Close lets go of the file once a running compaction is done.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		l.broken = errors.New("snapshot log is closed")
	}
	return l.f.Close()
}
