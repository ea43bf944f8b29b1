package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// KeyHeader carries the fingerprint of the node's master key.
const KeyHeader = "Cardea-Key"

const (
	dialTimeout  = 3 * time.Second
	callTimeout  = 10 * time.Second
	ackTimeout   = 2 * time.Second // less than a lease, so that the next control node hears in time
	stallTimeout = 5 * time.Second // a control node sends something every second
)

// Client is the feed of control nodes elsewhere. It stays with one as long as
// it answers and goes on to the next one otherwise.
type Client struct {
	log   *slog.Logger
	key   string
	bases []string
	http  *http.Client
	ident *identity

	mu  sync.Mutex
	now int // index of the base in use
}

// ClientOptions of a client.
type ClientOptions struct {
	Controls []string // https://host:9444, one or more
	Home     string   // holds the node's identity
	KeyID    string   // fingerprint of the master key
	Log      *slog.Logger
}

// NewClient reads the node's identity from home.
func NewClient(o ClientOptions) (*Client, error) {
	if len(o.Controls) == 0 {
		return nil, errors.New("follow control nodes: none is known")
	}
	c := &Client{log: o.Log, key: o.KeyID}
	for _, raw := range o.Controls {
		base, err := controlURL(raw)
		if err != nil {
			return nil, err
		}
		c.bases = append(c.bases, base)
	}
	var err error
	if c.ident, err = loadIdentity(pki.Dir(o.Home)); err != nil {
		return nil, err
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialTLSContext:        c.ident.dial,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: callTimeout,
	}}
	return c, nil
}

// controlURL checks the address of a control node.
func controlURL(raw string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(strings.TrimSpace(raw), "/"))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" {
		return "", fmt.Errorf("control node %q: want https://host:9444", raw)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "9444")
	}
	return u.String(), nil
}

// controlURLs reads a list of addresses separated by commas.
func controlURLs(list string) ([]string, error) {
	var out []string
	for raw := range strings.SplitSeq(list, ",") {
		base, err := controlURL(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, base)
	}
	return out, nil
}

func (c *Client) base() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bases[c.now]
}

// next goes on to another control node, unless that happened already.
func (c *Client) next(failed string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bases[c.now] == failed {
		c.now = (c.now + 1) % len(c.bases)
	}
}

// Follow is Feed.Follow over the network.
func (c *Client) Follow(ctx context.Context, gw apim.GatewayNode, after snapshot.Version, fn func(snapshot.Delta) error) error {
	base := c.base()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	q := url.Values{"after": {after.String()}, "env": gw.Labels}
	resp, err := c.do(ctx, http.MethodGet, base+"/sync/v1/follow?"+q.Encode(), nil)
	if err != nil {
		c.next(base)
		return err
	}
	defer resp.Body.Close()
	// A stream that goes silent is as bad as one that ends: the other side may be
	// stopped with its connections open.
	watch := time.AfterFunc(stallTimeout, func() { stop(errors.New("nothing came for " + stallTimeout.String())) })
	defer watch.Stop()
	dec := json.NewDecoder(resp.Body)
	for {
		var d snapshot.Delta
		if err := dec.Decode(&d); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			c.next(base)
			return fmt.Errorf("follow %s: %w", base, err)
		}
		watch.Stop()
		if err := fn(d); err != nil {
			return err
		}
		watch.Reset(stallTimeout)
	}
}

// Ack is Feed.Ack over the network.
func (c *Client) Ack(ctx context.Context, gw apim.GatewayNode) error {
	body, err := json.Marshal(gw)
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, ackTimeout)
	defer stop()
	resp, err := c.do(ctx, http.MethodPost, c.base()+"/sync/v1/ack", body)
	if err != nil {
		return err
	}
	return drain(resp)
}

// Body is Feed.Body over the network.
func (c *Client) Body(ctx context.Context, hash string) ([]byte, error) {
	ctx, stop := context.WithTimeout(ctx, 10*callTimeout)
	defer stop()
	base := c.base()
	resp, err := c.do(ctx, http.MethodGet, base+"/sync/v1/body/"+url.PathEscape(hash), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %s from %s: %w", hash, base, err)
	}
	if len(b) > maxBody {
		return nil, fmt.Errorf("fetch %s from %s: more than %d bytes", hash, base, maxBody)
	}
	return b, nil
}

// do makes one call; an answer other than 2xx is an error.
func (c *Client) do(ctx context.Context, method, target string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call control node: %w", err)
	}
	req.Header.Set(KeyHeader, c.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call control node: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // only decorates the error below
	err = fmt.Errorf("call control node: %s %s: %s: %s", method, req.URL.Path, resp.Status, strings.TrimSpace(string(text)))
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict:
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	case http.StatusNotFound:
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil, err
}

func drain(resp *http.Response) error {
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)); err != nil {
		return fmt.Errorf("call control node: %w", err)
	}
	return nil
}
