package exchange

import "unsafe"

// Scratch is room for texts that live as long as their call. It grows, and is
// used again.
type Scratch struct{ b []byte }

const minRoom = 256

// Begin starts a text: append to what it returns, and give that to End.
func (s *Scratch) Begin() []byte {
	if cap(s.b)-len(s.b) < minRoom {
		s.b = make([]byte, 0, 2*cap(s.b)+4*minRoom) // texts given out stay where they are
	}
	return s.b[len(s.b):]
}

// End is the text that b, begun by Begin, has become.
func (s *Scratch) End(b []byte) string {
	if n := len(s.b) + len(b); n <= cap(s.b) {
		s.b = s.b[:n]
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// maxKept is how much room is kept for the next call, bytes.
const maxKept = 8 << 10

// Reset makes the room free for other texts; those given out are no longer valid.
func (s *Scratch) Reset() {
	if s.b = s.b[:0]; cap(s.b) > maxKept {
		s.b = nil
	}
}
