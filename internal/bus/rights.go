package bus

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Rights are what a node may do on the bus of another process, besides
// receiving the answers to its own requests. What they do not name is refused.
// Subjects may end in ">" or hold "*". Sender stands for the node itself in
// Publish, and for any node in the others.
type Rights struct {
	Publish   []string // send and request
	Subscribe []string // receive
	Answer    []string // receive requests, and answer each of them once
}

// Sender is the part of a subject that names who sends. In what a node sends it
// is the node's name; on the bus of another process it cannot be another one's.
const Sender = "{sender}"

// tokenOf is a node's name as a part of a subject.
func tokenOf(node string) string { return hex.EncodeToString([]byte(node)) }

func from(node, subject string) string { return strings.ReplaceAll(subject, Sender, tokenOf(node)) }

func fromAny(subject string) string { return strings.ReplaceAll(subject, Sender, "*") }

// senderOf is who sent on a subject made from one with Sender in it.
func senderOf(pattern, subject string) (node string, ok bool) {
	want, got := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, part := range want {
		if part == Sender && i < len(got) {
			name, err := hex.DecodeString(got[i])
			return string(name), err == nil
		}
	}
	return "", false
}

// Grant says what a node may do, by the name and the roles of its certificate.
type Grant func(node string, roles []string) Rights

const (
	inboxes    = "_INBOX." // where answers go
	maxConnect = 4096      // bytes of the line that opens a connection
	answerLife = time.Minute
)

// inboxOf is where the answers for one node go: nobody else may listen there.
func inboxOf(node string) string { return inboxes + tokenOf(node) }

func (r Rights) empty() bool { return len(r.Publish)+len(r.Subscribe)+len(r.Answer) == 0 }

// permissions are the rights in the words of the server.
func (r Rights) permissions(node string) *server.Permissions {
	send, receive := []string{}, []string{inboxOf(node) + ".>"} // nil would allow everything
	for _, s := range r.Publish {
		send = append(send, from(node, s))
	}
	for _, s := range slices.Concat(r.Subscribe, r.Answer) {
		receive = append(receive, fromAny(s))
	}
	p := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: send},
		Subscribe: &server.SubjectPermission{Allow: receive},
	}
	if len(r.Answer) > 0 {
		p.Response = &server.ResponsePermission{MaxMsgs: 1, Expires: answerLife}
	}
	return p
}

// gate tells the embedded server who connects to it. Every connection comes
// from within the process: the bus's own, or one of a node, for which bridge
// has checked the certificate and left a ticket.
type gate struct {
	own     string // the ticket of the bus itself
	mu      sync.Mutex
	tickets map[string]*server.User // each good for one connection
}

func newGate() *gate { return &gate{own: rand.Text(), tickets: map[string]*server.User{}} }

// Check is server.Authentication.
func (g *gate) Check(c server.ClientAuthentication) bool {
	ticket := c.GetOpts().Token
	if ticket == g.own {
		return true
	}
	g.mu.Lock()
	user, ok := g.tickets[ticket]
	delete(g.tickets, ticket)
	g.mu.Unlock()
	if ok {
		c.RegisterUser(user)
	}
	return ok
}

// ticket lets one connection in as the node. drop takes it back.
func (g *gate) ticket(node string, r Rights) (ticket string, drop func()) {
	ticket = rand.Text()
	g.mu.Lock()
	g.tickets[ticket] = &server.User{Username: node, Permissions: r.permissions(node)}
	g.mu.Unlock()
	return ticket, func() {
		g.mu.Lock()
		delete(g.tickets, ticket)
		g.mu.Unlock()
	}
}

// peer is the node at the other end, by its certificate.
func peer(state tls.ConnectionState) (node string, roles []string, err error) {
	if len(state.VerifiedChains) == 0 {
		return "", nil, errors.New("no verified certificate")
	}
	s := state.VerifiedChains[0][0].Subject
	if s.CommonName == "" {
		return "", nil, errors.New("the certificate names no node")
	}
	return s.CommonName, s.OrganizationalUnit, nil
}

// selfOf is the node name in the certificate shown to servers, or empty.
func selfOf(conf *tls.Config) string {
	if conf == nil || len(conf.Certificates) == 0 || conf.Certificates[0].Leaf == nil {
		return ""
	}
	return conf.Certificates[0].Leaf.Subject.CommonName
}

// greeting is what a client may say of itself when it connects. Who it is, is
// not among it.
type greeting struct {
	Verbose      bool   `json:"verbose"`
	Pedantic     bool   `json:"pedantic"`
	Echo         *bool  `json:"echo,omitempty"`
	Lang         string `json:"lang,omitempty"`
	Version      string `json:"version,omitempty"`
	Protocol     int    `json:"protocol"`
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
	Name         string `json:"name"`
	Ticket       string `json:"auth_token"`
}

// introduce reads the line by which a client connects and makes of it the one
// the server is to see, with the name of the certificate and the ticket.
func introduce(r *bufio.Reader, node, ticket string) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("read CONNECT: %w", err)
	}
	verb, arg, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	if !strings.EqualFold(string(verb), "CONNECT") {
		return nil, errors.New("the connection does not begin with CONNECT")
	}
	var g greeting
	if err := json.Unmarshal(arg, &g); err != nil {
		return nil, fmt.Errorf("read CONNECT: %w", err)
	}
	g.Name, g.Ticket = node, ticket
	out, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("write CONNECT: %w", err)
	}
	return append(append([]byte("CONNECT "), out...), '\r', '\n'), nil
}
