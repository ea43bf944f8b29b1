package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/pki"
)

// identity is the node's certificate in use; it can be exchanged while
// connections live.
type identity struct {
	dir     string
	current atomic.Pointer[pki.Identity]
}

func loadIdentity(dir string) (*identity, error) {
	id, err := pki.LoadIdentity(dir)
	if err != nil {
		return nil, err
	}
	i := &identity{dir: dir}
	i.current.Store(id)
	return i, nil
}

// dial makes a connection with the certificate of the moment.
func (i *identity) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout, KeepAlive: 5 * time.Second}, Config: i.current.Load().Client()}
	return d.DialContext(ctx, network, addr)
}

// renewBefore is how long before its end a node asks for a new certificate.
const renewBefore = 60 * 24 * time.Hour

// Renew asks a control node for a new certificate when the node's own ends
// soon. It reports whether it got one.
func (c *Client) Renew(ctx context.Context) (bool, error) {
	id := c.ident.current.Load()
	if time.Until(id.Until()) > renewBefore {
		return false, nil
	}
	return true, c.RenewNow(ctx)
}

// RenewNow asks for a new certificate whatever is left of the old one.
func (c *Client) RenewNow(ctx context.Context) error {
	id := c.ident.current.Load()
	keyPEM, csr, err := pki.NewRequest(id.ID())
	if err != nil {
		return err
	}
	body, err := json.Marshal(pki.JoinRequest{CSR: string(csr)})
	if err != nil {
		return fmt.Errorf("renew node certificate: %w", err)
	}
	resp, err := c.do(ctx, http.MethodPost, c.base()+"/sync/v1/renew", body)
	if err != nil {
		return fmt.Errorf("renew node certificate: %w", err)
	}
	var reply pki.JoinReply
	if err := decodeReply(resp, &reply); err != nil {
		return fmt.Errorf("renew node certificate: %w", err)
	}
	if err := pki.SaveIdentity(c.ident.dir, []byte(reply.Certificate), keyPEM, []byte(reply.CA)); err != nil {
		return err
	}
	fresh, err := pki.LoadIdentity(c.ident.dir)
	if err != nil {
		return err
	}
	c.ident.current.Store(fresh)
	return nil
}
