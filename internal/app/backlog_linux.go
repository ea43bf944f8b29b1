package app

import (
	"net"

	"golang.org/x/sys/unix"
)

// backlog is how many connections may wait in the kernel to be accepted. Go
// asks for as many as the system allows, thousands: when new ones come faster
// than they can be served, all would be served too late.
const backlog = 1024

// shorten bounds the queue of a port that is open already.
func shorten(ln net.Listener) {
	t, ok := ln.(*net.TCPListener)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return // closed meanwhile: nothing will be accepted
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.Listen(int(fd), backlog) })
}
