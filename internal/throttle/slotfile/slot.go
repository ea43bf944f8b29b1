//go:build unix

package slotfile

import (
	"encoding/binary"
	"hash/crc32"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cardea-apim/cardea/internal/throttle"
)

// A slot is 64 bytes, little-endian:
//
//	 0  state   0 free, otherwise the mark of a slot in use; written last, cleared first
//	 8  key     16 bytes
//	24  window  length in nanoseconds
//	32  number  of the window
//	40  gen     moment of the latest reset
//	48  count   48 bits of count, 16 bits of checksum: one aligned word, so a kill
//	            leaves either the old or the new count
//	56  kind    1 byte, then 3 of zero
//	60  crc     CRC-32C of bytes 8 to 47 and the kind
const (
	slotSize = 64
	inUse    = 0xCA7DEA_5107_0001
	maxCount = 1<<48 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// slot is one place in a segment.
type slot struct {
	f   *File
	seg *segment
	at  int // byte offset in the segment
	crc uint32
}

func (s *slot) bytes() []byte { return s.seg.mem[s.at : s.at+slotSize] }

func (s *slot) word(off int) *uint64 {
	return (*uint64)(unsafe.Pointer(&s.seg.mem[s.at+off])) // slots and words are 8-byte aligned
}

// pack joins a count with a checksum that also depends on whose count it is.
func pack(n int64, crc uint32) uint64 {
	c := uint64(min(max(n, 0), maxCount))
	return c<<16 | check(c, crc)
}

func check(c uint64, crc uint32) uint64 {
	h := (c ^ uint64(crc)<<17 ^ 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9
	h ^= h >> 29
	return (h * 0x94D049BB133111EB) >> 48
}

// Set stores the count. It is one atomic store into the shared page.
func (s *slot) Set(n int64) {
	atomic.StoreUint64(s.word(48), pack(n, s.crc))
	s.seg.touch()
}

// Free gives the place back.
func (s *slot) Free() {
	atomic.StoreUint64(s.word(0), 0)
	s.seg.touch()
	s.f.give(s.seg, s.at)
}

// fill writes a state into a free place.
func (s *slot) fill(st throttle.State) {
	b := s.bytes()
	copy(b[8:24], st.Key[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(st.Window))
	binary.LittleEndian.PutUint64(b[32:], uint64(st.Number))
	binary.LittleEndian.PutUint64(b[40:], uint64(st.Gen))
	b[56], b[57], b[58], b[59] = byte(st.Kind), 0, 0, 0
	s.crc = identity(b)
	binary.LittleEndian.PutUint32(b[60:], s.crc)
	atomic.StoreUint64(s.word(48), pack(st.Used, s.crc))
	atomic.StoreUint64(s.word(0), inUse)
	s.seg.touch()
}

func identity(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[8:48], castagnoli), castagnoli, b[56:60])
}

// read gives the state of a place; problem is empty when it is sound.
func (s *slot) read() (st throttle.State, used bool, problem string) {
	b := s.bytes()
	mark := atomic.LoadUint64(s.word(0))
	if mark == 0 {
		return st, false, ""
	}
	if mark != inUse {
		return st, false, "unknown mark"
	}
	s.crc = binary.LittleEndian.Uint32(b[60:])
	if s.crc != identity(b) {
		return st, false, "identity does not match its checksum"
	}
	w := atomic.LoadUint64(s.word(48))
	if check(w>>16, s.crc) != w&0xFFFF {
		return st, false, "count does not match its checksum"
	}
	copy(st.Key[:], b[8:24])
	st.Window = time.Duration(binary.LittleEndian.Uint64(b[24:]))
	st.Number = int64(binary.LittleEndian.Uint64(b[32:]))
	st.Gen = int64(binary.LittleEndian.Uint64(b[40:]))
	st.Kind = throttle.Kind(b[56])
	st.Used = int64(w >> 16)
	if st.Window <= 0 {
		return st, false, "window without length"
	}
	return st, true, ""
}
