//go:build !linux

package app

import "net"

func shorten(net.Listener) {}
