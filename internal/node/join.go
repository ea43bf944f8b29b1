package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/seal"
)

// Joined is what a home remembers of its joining.
type Joined struct {
	ID       string   `json:"id"`
	Controls []string `json:"controls"`
	Bus      string   `json:"bus,omitempty"` // URLs, separated by commas
	Roles    []string `json:"roles"`
}

func joinedFile(home string) string { return filepath.Join(home, "node.json") }

// LoadJoined reads what Join wrote; fs.ErrNotExist when the home never joined.
func LoadJoined(home string) (*Joined, error) {
	b, err := os.ReadFile(joinedFile(home))
	if err != nil {
		return nil, fmt.Errorf("read node.json: %w", err)
	}
	j := &Joined{}
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("read node.json: %w", err)
	}
	return j, nil
}

// Join makes the home one of a node of the installation whose control nodes are
// at the urls (https://host:9444, separated by commas): by the first of them that
// answers it gets a certificate, the CA and the master key
// for the one-time token. An empty id is made from the host name. A home that
// holds another installation's key is left alone.
func Join(ctx context.Context, urls, token, home, id string) (*Joined, error) {
	tok, err := pki.ParseToken(token)
	if err != nil {
		return nil, err
	}
	bases, err := controlURLs(urls)
	if err != nil {
		return nil, err
	}
	if old, err := LoadJoined(home); err == nil {
		return nil, fmt.Errorf("join: this home is node %s already", old.ID)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if id == "" {
		id = defaultID()
	}
	keyPEM, csr, err := pki.NewRequest(id)
	if err != nil {
		return nil, err
	}
	reply, err := askAnyToJoin(ctx, bases, tok, csr)
	if err != nil {
		return nil, err
	}
	master, err := seal.ParseKey(reply.MasterKey)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if err := seal.Save(home, master); err != nil {
		return nil, err
	}
	if err := pki.SaveIdentity(pki.Dir(home), []byte(reply.Certificate), keyPEM, []byte(reply.CA)); err != nil {
		return nil, err
	}
	j := &Joined{ID: id, Controls: bases, Bus: reply.Bus, Roles: reply.Roles}
	if err := saveJoined(home, j); err != nil {
		return nil, err
	}
	return j, nil
}

// How long control nodes are waited for that cannot be reached yet, because
// they start at the same time or are about to open the port.
const (
	joinPatience = 15 * time.Second
	joinPause    = 250 * time.Millisecond
)

// askAnyToJoin asks each in turn, and all again while none can be reached. An
// answer, also a refusal, ends it.
func askAnyToJoin(ctx context.Context, bases []string, tok pki.Token, csr []byte) (*pki.JoinReply, error) {
	for end := time.Now().Add(joinPatience); ; {
		var failed []error
		away := true
		for _, base := range bases {
			reply, err := askToJoin(ctx, base, tok, csr)
			if err == nil {
				return reply, nil
			}
			failed = append(failed, err)
			dial, ok := errors.AsType[*net.OpError](err)
			away = away && ok && dial.Op == "dial"
		}
		if !away || time.Now().After(end) {
			return nil, errors.Join(failed...)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(failed...)
		case <-time.After(joinPause):
		}
	}
}

// Refollow makes the control nodes that the configuration names the ones that a
// joined node follows from now on. It keeps what it remembers if there are none.
func (j *Joined) Refollow(home, urls string) error {
	if urls == "" {
		return nil
	}
	bases, err := controlURLs(urls)
	if err != nil || slices.Equal(bases, j.Controls) {
		return err
	}
	j.Controls = bases
	return saveJoined(home, j)
}

func askToJoin(ctx context.Context, base string, tok pki.Token, csr []byte) (*pki.JoinReply, error) {
	body, err := json.Marshal(pki.JoinRequest{Token: tok.Secret, CSR: string(csr)})
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, callTimeout)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/sync/v1/join", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tok.Client(), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", base, err)
	}
	reply := &pki.JoinReply{}
	if err := decodeReply(resp, reply); err != nil {
		return nil, fmt.Errorf("join %s: %w", base, err)
	}
	return reply, nil
}

func decodeReply(resp *http.Response, v any) error {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	return json.Unmarshal(b, v)
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// defaultID is the host name with a few random digits: two nodes of one host
// are two nodes.
func defaultID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	host = strings.Trim(notInID.ReplaceAllString(host, "-"), "-._")
	if host == "" {
		host = "node"
	}
	b := make([]byte, 3)
	rand.Read(b)
	return host[:min(len(host), 50)] + "-" + hex.EncodeToString(b)
}

func saveJoined(home string, j *Joined) error {
	b, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return fmt.Errorf("write node.json: %w", err)
	}
	f, err := os.CreateTemp(home, ".node-*")
	if err != nil {
		return fmt.Errorf("write node.json: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), joinedFile(home))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write node.json: %w", err)
	}
	return nil
}
