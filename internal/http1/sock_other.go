//go:build !linux

package http1

import (
	"io"
	"net"
)

// sock is not available.
type sock struct{ io.ReadWriter }

func (*sock) ask(_, _ []byte) (int, bool, error) { return 0, false, io.ErrUnexpectedEOF }

// quick is c.
func quick(c net.Conn) io.ReadWriter { return c }
