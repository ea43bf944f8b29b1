//go:build !linux

package http1

import "net"

type peerState uint8

const (
	peerThere peerState = iota
	peerHalf
	peerGone
)

// probe is not available: a client that leaves is seen when its answer is
// written, a stale connection when it is used.
type probe struct{}

func newProbe(net.Conn) *probe { return nil }
func (*probe) peer() peerState { return peerThere }
func (*probe) pending() int    { return -1 }
