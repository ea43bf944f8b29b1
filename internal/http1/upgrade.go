package http1

import (
	"fmt"
	"time"
)

// Upgrade answers 101 with the protocol the client asked for, and gives the
// connection away: reads begin with what the client sent behind its request.
// The caller closes it; the server's time-outs no longer act on it.
func (x *Exchange) Upgrade(protocol string, h Header) (*Tunnel, error) {
	if x.Upgrading() == "" {
		return nil, ErrNoUpgrade
	}
	if !x.body.complete() {
		return nil, fmt.Errorf("upgrade connection: %w", ErrNotWanted)
	}
	if x.status != 0 {
		return nil, ErrReplied
	}
	x.statusLine(101)
	x.out = append(x.out, "Connection: Upgrade\r\n"...)
	out, err := appendFields(x.out, Header{{"Upgrade", protocol}}, true)
	if err == nil {
		out, err = appendFields(out, h, false)
	}
	if err != nil {
		x.out = out[:0]
		return nil, err
	}
	x.out = append(out, '\r', '\n')
	x.status = 101
	if err := x.flush(); err != nil {
		return nil, err
	}
	return x.give(), nil
}

// Hijack gives the connection away without an answer.
func (x *Exchange) Hijack() (*Tunnel, error) {
	if x.sent || x.tunnel != nil {
		return nil, ErrReplied
	}
	x.status = 101
	return x.give(), nil
}

func (x *Exchange) give() *Tunnel {
	c := x.c
	c.busy.Store(0)
	x.tunnel = c.detach()
	x.tunnel.ended = func() { c.srv.tunnelClosed(c.peer) }
	_ = c.nc.SetDeadline(time.Time{})
	x.free()
	return x.tunnel
}
