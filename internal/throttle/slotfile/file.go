//go:build unix

// Package slotfile keeps the counters of long windows in files that are mapped
// into memory and shared with the kernel's page cache. A count is stored by one
// machine word, so a kill at any moment loses no count that was admitted; a power
// cut loses at most what was counted since the latest sync (one second). Every
// slot carries checksums: a damaged one is detected, named and put aside.
package slotfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardea-apim/cardea/internal/throttle"
)

// SyncEvery is how often Run flushes to the disk.
const SyncEvery = time.Second

// Options of Open. The zero value is usable.
type Options struct {
	Log         *slog.Logger // nil: slog.Default
	SegmentSize int          // bytes of one file, a multiple of 64; 0: 1 MiB (16,383 counters)
	MaxSegments int          // bound of files; 0: 64
}

// Damage names a place that failed its checksum.
type Damage struct {
	File   string
	Offset int64 // -1: the whole file, which was renamed to File + ".damaged"
	Reason string
}

// String is file:offset: reason.
func (d Damage) String() string { return fmt.Sprintf("%s:%d: %s", d.File, d.Offset, d.Reason) }

// File is a directory of mapped segments. It implements throttle.Backing.
type File struct {
	dir  string
	o    Options
	lock *os.File

	mu     sync.Mutex
	segs   []*segment
	free   []place
	loaded []loaded
	damage []Damage
	failed error // the latest failure to grow or sync; nil when the latest succeeded
	closed bool
}

type place struct {
	seg *segment
	at  int
}

type loaded struct {
	st throttle.State
	s  *slot
}

var _ throttle.Backing = (*File)(nil)

// Open maps what is in dir, which it makes if missing. A directory can be open
// in one process only.
func Open(dir string, o Options) (*File, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 1 << 20
	}
	if o.SegmentSize < 2*slotSize || o.SegmentSize%slotSize != 0 {
		return nil, fmt.Errorf("open counters %s: segment size %d is not a multiple of %d", dir, o.SegmentSize, slotSize)
	}
	if o.MaxSegments == 0 {
		o.MaxSegments = 64
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open counters: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open counters: %w", err)
	}
	if err := claim(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("open counters %s: in use by another process: %w", dir, err)
	}
	f := &File{dir: dir, o: o, lock: lock}
	if err := f.load(); err != nil {
		lock.Close()
		return nil, err
	}
	return f, nil
}

// claim waits a moment for the lock: a process that was killed, or a child it was
// just starting, may hold it a little longer.
func claim(lock *os.File) error {
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) || wait > 500*time.Millisecond {
			return err
		}
		time.Sleep(wait)
	}
}

// load maps the segments that exist and checks every slot.
func (f *File) load() error {
	for n := range f.o.MaxSegments {
		name := segmentName(f.dir, n)
		seg, err := openSegment(name, n)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case errors.Is(err, errDamaged):
			if err := os.Rename(name, name+".damaged"); err != nil {
				return fmt.Errorf("put damaged counters aside: %w", err)
			}
			f.report(Damage{File: name, Offset: -1, Reason: err.Error()})
			if seg, err = makeSegment(name, n, f.o.SegmentSize); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		f.add(seg)
	}
	return nil
}

func (f *File) add(seg *segment) {
	f.segs = append(f.segs, seg)
	for at := len(seg.mem) - slotSize; at >= slotSize; at -= slotSize {
		s := &slot{f: f, seg: seg, at: at}
		st, used, problem := s.read()
		if problem != "" {
			f.report(Damage{File: seg.name, Offset: int64(at), Reason: problem})
			clear(s.bytes())
			seg.touch()
		}
		if used {
			f.loaded = append(f.loaded, loaded{st, s})
		} else {
			f.free = append(f.free, place{seg, at})
		}
	}
}

func (f *File) report(d Damage) {
	f.damage = append(f.damage, d)
	f.o.Log.Error("counter file damaged", "file", d.File, "offset", d.Offset, "reason", d.Reason)
}

// Damages lists what Open found broken. The counts there are lost; their
// windows count from nothing.
func (f *File) Damages() []Damage { return f.damage }

// Each hands out what Open loaded, once.
func (f *File) Each(fn func(throttle.State, throttle.Slot)) {
	f.mu.Lock()
	all := f.loaded
	f.loaded = nil
	f.mu.Unlock()
	for _, l := range all {
		fn(l.st, l.s)
	}
}

// Acquire makes a place for a counter, growing by a segment when all are taken.
func (f *File) Acquire(st throttle.State) (throttle.Slot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.New("acquire counter: closed")
	}
	if len(f.free) == 0 {
		if err := f.grow(); err != nil {
			if f.failed == nil {
				f.o.Log.Error("counter file cannot grow; long windows are counted in memory", "err", err)
			}
			f.failed = err
			return nil, err
		}
	}
	p := f.free[len(f.free)-1]
	f.free = f.free[:len(f.free)-1]
	s := &slot{f: f, seg: p.seg, at: p.at}
	s.fill(st)
	return s, nil
}

func (f *File) grow() error {
	n := len(f.segs)
	if n >= f.o.MaxSegments {
		return fmt.Errorf("grow counters: all %d segments are full", n)
	}
	seg, err := makeSegment(segmentName(f.dir, n), n, f.o.SegmentSize)
	if err != nil {
		return err
	}
	f.add(seg)
	return nil
}

func (f *File) give(seg *segment, at int) {
	f.mu.Lock()
	f.free = append(f.free, place{seg, at})
	f.mu.Unlock()
}

// Sync flushes changed segments to the disk.
func (f *File) Sync() error {
	f.mu.Lock()
	segs := f.segs
	f.mu.Unlock()
	var errs []error
	for _, s := range segs {
		errs = append(errs, s.sync())
	}
	err := errors.Join(errs...)
	f.mu.Lock()
	f.failed = err
	f.mu.Unlock()
	return err
}

// Run syncs every second until ctx ends, and once more then.
func (f *File) Run(ctx context.Context) error {
	t := time.NewTicker(SyncEvery)
	defer t.Stop()
	bad := false
	for {
		select {
		case <-ctx.Done():
			return f.Sync()
		case <-t.C:
			err := f.Sync()
			if (err != nil) != bad {
				bad = err != nil
				if bad {
					f.o.Log.ErrorContext(ctx, "counter file cannot be synced", "dir", f.dir, "err", err)
				} else {
					f.o.Log.InfoContext(ctx, "counter file is synced again", "dir", f.dir)
				}
			}
		}
	}
}

// Health is the latest failure to grow or sync, nil when all is well.
func (f *File) Health() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Close syncs and lets another process open the directory. The mapping stays
// until the process ends, because counters may still be in use.
func (f *File) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	return errors.Join(f.Sync(), f.lock.Close())
}
