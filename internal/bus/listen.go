package bus

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// listener lets other nodes onto an embedded bus. It ends TLS itself and hands
// the plain bytes to the server in the process, so that it can be opened at any
// moment of the server's life, and its certificates be exchanged under it.
type listener struct {
	net.Listener
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	nodes  map[*tls.Conn]struct{} // those of conns whose node is known
	closed bool
	wg     sync.WaitGroup
}

// Listen opens the embedded bus to other nodes at the address. The
// configuration must ask for and verify client certificates; what a node may do
// then is what grant says.
func (b *Bus) Listen(addr string, conf *tls.Config, grant Grant) (net.Addr, error) {
	if b.server == nil {
		return nil, errors.New("open bus: it is not in this process")
	}
	if conf == nil || (conf.ClientAuth != tls.RequireAndVerifyClientCert && conf.GetConfigForClient == nil) {
		return nil, errors.New("open bus: client certificates must be required")
	}
	if grant == nil {
		return nil, errors.New("open bus: nobody says what nodes may do")
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("open bus: %w", err)
	}
	l := &listener{Listener: ln, conns: map[net.Conn]struct{}{}, nodes: map[*tls.Conn]struct{}{}}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		ln.Close()
		return nil, errors.New("open bus: it is closed")
	}
	b.listeners = append(b.listeners, l)
	b.mu.Unlock()
	l.wg.Add(1)
	go b.accept(l, conf, grant)
	return ln.Addr(), nil
}

// Cut ends the connections of nodes that refused says so of. They will try
// again: whether they may is for the configuration given to Listen.
func (b *Bus) Cut(refused func(tls.ConnectionState) bool) {
	b.mu.Lock()
	listeners := slices.Clone(b.listeners)
	b.mu.Unlock()
	for _, l := range listeners {
		l.mu.Lock()
		for c := range l.nodes {
			if refused(c.ConnectionState()) {
				c.NetConn().Close() // not Close, which waits to say goodbye
			}
		}
		l.mu.Unlock()
	}
}

func (b *Bus) accept(l *listener, conf *tls.Config, grant Grant) {
	defer l.wg.Done()
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			b.log.Warn("bus cannot accept", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if !l.track(c) {
			c.Close()
			return
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			defer l.forget(c)
			b.bridge(l, tls.Server(c, conf), conf.VerifyConnection, grant)
		}()
	}
}

// bridge joins a node's connection to the server in the process. The server
// learns who it is from a ticket, which the bridge puts into the first line in
// place of whatever the node says there.
func (b *Bus) bridge(l *listener, c *tls.Conn, verify func(tls.ConnectionState) error, grant Grant) {
	defer c.Close()
	refused := func(err error) {
		b.log.Warn("bus refused a connection", "from", c.RemoteAddr().String(), "err", err)
	}
	// The deadline covers the first line too.
	if err := errors.Join(c.SetDeadline(time.Now().Add(10*time.Second)), c.Handshake()); err != nil {
		refused(err)
		return
	}
	node, roles, err := peer(c.ConnectionState())
	if err != nil {
		refused(err)
		return
	}
	l.know(c)
	defer l.unknow(c)
	// Now that Cut can find it: it may be too late for a Cut just made.
	if verify != nil {
		if err := verify(c.ConnectionState()); err != nil {
			refused(err)
			return
		}
	}
	rights := grant(node, roles)
	if rights.empty() {
		refused(fmt.Errorf("node %s has nothing to do here by its roles %v", node, roles))
		return
	}
	in, err := b.server.InProcessConn()
	if err != nil {
		refused(err)
		return
	}
	if !l.track(in) {
		in.Close()
		return
	}
	defer l.forget(in)
	done := make(chan struct{}, 2)
	pipe := func(dst net.Conn, src io.Reader) {
		_, _ = io.Copy(dst, src) // the end of either side ends both; the client reconnects
		in.Close()
		c.Close()
		done <- struct{}{}
	}
	go pipe(c, in) // the server speaks first
	go func() {
		r := bufio.NewReaderSize(c, maxConnect)
		ticket, drop := b.gate.ticket(node, rights)
		defer drop()
		line, err := introduce(r, node, ticket)
		if err == nil {
			err = c.SetDeadline(time.Time{})
		}
		if err == nil {
			_, err = in.Write(line)
		}
		if err != nil {
			refused(err)
			in.Close() // pipe then only waits for the other half
		}
		pipe(in, r)
	}()
	<-done
	<-done
}

func (l *listener) track(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *listener) know(c *tls.Conn) {
	l.mu.Lock()
	l.nodes[c] = struct{}{}
	l.mu.Unlock()
}

func (l *listener) unknow(c *tls.Conn) {
	l.mu.Lock()
	delete(l.nodes, c)
	l.mu.Unlock()
}

func (l *listener) forget(c net.Conn) {
	c.Close()
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}

func (l *listener) close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	l.closed = true
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
	return err
}
