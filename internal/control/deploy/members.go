package deploy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/pki"
)

// members is what the log knows of who joined.
type members interface {
	AddMember(ctx context.Context, m apim.Member) error
	Withdrawn(ctx context.Context) ([]string, error)
	Withdraw(ctx context.Context, node string) error
}

// withdrawnEvery is how often a control node asks whom others withdrew.
const withdrawnEvery = 500 * time.Millisecond

var errRemoved = errors.New("the node was removed")

// membership knows who is no longer a member, and ends their streams.
type membership struct {
	log  members
	gone atomic.Pointer[map[string]struct{}]

	mu      sync.Mutex
	seen    map[string]struct{} // members that the log has
	streams map[*stream]struct{}
}

type stream struct {
	member string
	end    context.CancelFunc
}

func (m *membership) init(log members) {
	m.log, m.seen, m.streams = log, map[string]struct{}{}, map[*stream]struct{}{}
	m.gone.Store(&map[string]struct{}{})
}

// withdrawn reports whether a member was withdrawn. Nodes that did not join,
// such as other control nodes, have no member id and cannot be.
func (m *membership) withdrawn(member string) bool {
	_, gone := (*m.gone.Load())[member]
	return gone && member != ""
}

// met makes sure that the log has the member: a restored database may not know
// one that joined after the backup, and it must be possible to withdraw it.
func (m *membership) met(ctx context.Context, c caller) error {
	if c.member == "" {
		return nil
	}
	m.mu.Lock()
	_, known := m.seen[c.member]
	m.mu.Unlock()
	if known {
		return nil
	}
	ctx = apim.WithActor(ctx, &apim.Actor{User: "node " + c.id, Tenant: apim.SuperTenant, Addr: c.addr, System: true})
	if err := m.log.AddMember(ctx, apim.Member{ID: c.member, Node: c.id, Roles: c.roles, Joined: time.Now()}); err != nil {
		return err
	}
	m.mu.Lock()
	m.seen[c.member] = struct{}{}
	m.mu.Unlock()
	return nil
}

// attend gives the context of a member's stream, which ends with the membership.
func (m *membership) attend(ctx context.Context, member string) (context.Context, func()) {
	ctx, end := context.WithCancel(ctx)
	st := &stream{member, end}
	m.mu.Lock()
	m.streams[st] = struct{}{}
	m.mu.Unlock()
	if m.withdrawn(member) {
		end() // meanwhile
	}
	return ctx, func() {
		end()
		m.mu.Lock()
		delete(m.streams, st)
		m.mu.Unlock()
	}
}

// learn asks the log who was withdrawn, and ends the streams of those. It
// reports whether there are new ones.
func (m *membership) learn(ctx context.Context) (news bool, err error) {
	ids, err := m.log.Withdrawn(ctx)
	if err != nil {
		return false, err
	}
	gone := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		gone[id] = struct{}{}
	}
	news = len(gone) != len(*m.gone.Swap(&gone)) // rows are never taken back
	m.mu.Lock()
	defer m.mu.Unlock()
	for st := range m.streams {
		if m.withdrawn(st.member) {
			st.end()
		}
	}
	return news, nil
}

// Admit refuses the connection of a node that was withdrawn. It is for
// tls.Config.VerifyConnection.
func (s *Server) Admit(state tls.ConnectionState) error {
	if s.withdrawn(pki.Member(&state)) {
		return errRemoved
	}
	return nil
}

// Withdraw ends the membership of a node: this and every other control node
// refuse its certificates within a second and end its connections. It can join
// anew. fault.Missing when no node of that name has joined.
func (s *Server) Withdraw(ctx context.Context, node string) error {
	if err := s.log.Withdraw(ctx, node); err != nil {
		return err
	}
	if err := s.refresh(ctx); err != nil {
		return fmt.Errorf("withdraw node %s: it is done, and noticed in a moment: %w", node, err)
	}
	return nil
}

func (s *Server) refresh(ctx context.Context) error {
	news, err := s.learn(ctx)
	if err == nil && news && s.o.Cut != nil {
		s.o.Cut(func(state tls.ConnectionState) bool { return s.Admit(state) != nil })
	}
	return err
}

// watch notices what other control nodes withdrew.
func (s *Server) watch(ctx context.Context) {
	t := time.NewTicker(withdrawnEvery)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := s.refresh(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.o.Logger.WarnContext(ctx, "removed nodes unknown", "err", err)
		}
		failing = err != nil
	}
}
