package http1

import "sync"

const (
	small = 4 << 10   // heads, small answers
	wide  = 32 << 10  // streaming
	huge  = 128 << 10 // the largest head
)

var (
	smalls = sync.Pool{New: func() any { return new([small]byte) }}
	wides  = sync.Pool{New: func() any { return new([wide]byte) }}
	huges  = sync.Pool{New: func() any { return new([huge]byte) }}
)

// getBuffer is a pooled buffer of at least n bytes, n up to huge.
func getBuffer(n int) []byte {
	switch {
	case n <= small:
		return smalls.Get().(*[small]byte)[:]
	case n <= wide:
		return wides.Get().(*[wide]byte)[:]
	}
	return huges.Get().(*[huge]byte)[:]
}

// putBuffer takes back what getBuffer gave; other sizes are left to the
// garbage collector.
func putBuffer(b []byte) {
	b = b[:cap(b)]
	switch len(b) {
	case small:
		smalls.Put((*[small]byte)(b))
	case wide:
		wides.Put((*[wide]byte)(b))
	case huge:
		huges.Put((*[huge]byte)(b))
	}
}
