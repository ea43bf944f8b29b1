//go:build unix

package slotfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A segment begins with one slot's length of header: magic, segment number, size
// in bytes, CRC-32C of those.
const magic = "CARDCNT1"

var errDamaged = errors.New("segment header is damaged")

type segment struct {
	name    string
	mem     []byte
	changed atomic.Bool
}

func segmentName(dir string, n int) string {
	return filepath.Join(dir, fmt.Sprintf("counters-%03d.slots", n))
}

func header(n, size int) []byte {
	b := make([]byte, slotSize)
	copy(b, magic)
	binary.LittleEndian.PutUint64(b[8:], uint64(n))
	binary.LittleEndian.PutUint64(b[16:], uint64(size))
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
	return b
}

// makeSegment writes a whole file of zeros, not a sparse one: a write into a
// mapped hole on a full disk would end the process.
func makeSegment(name string, n, size int) (*segment, error) {
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make counter segment: %w", err)
	}
	b := make([]byte, size)
	copy(b, header(n, size))
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make counter segment: %w", err), os.Remove(tmp))
	}
	if err := syncDir(filepath.Dir(name)); err != nil {
		return nil, err
	}
	return openSegment(name, n)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

func openSegment(name string, n int) (*segment, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open counter segment: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open counter segment: %w", err)
	}
	size := int(fi.Size())
	head := make([]byte, slotSize)
	if _, err := f.ReadAt(head, 0); err != nil || size%slotSize != 0 || string(head) != string(header(n, size)) {
		return nil, errDamaged
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map counter segment: %w", err)
	}
	return &segment{name: name, mem: mem}, nil
}

func (s *segment) touch() {
	if !s.changed.Load() {
		s.changed.Store(true)
	}
}

func (s *segment) sync() error {
	if !s.changed.Swap(false) {
		return nil
	}
	if err := unix.Msync(s.mem, unix.MS_SYNC); err != nil {
		s.changed.Store(true)
		return fmt.Errorf("sync %s: %w", s.name, err)
	}
	return nil
}
