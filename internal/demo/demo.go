package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/cardea-apim/cardea/internal/client"
)

// Names of what the demo makes.
const (
	User    = "developer"
	API     = "PizzaShackAPI"
	Version = "1.0.0"
	Context = "/pizzashack"
	appName = "PizzaApp"
)

// Options of Run. Publisher and Developer are signed in as the administrator
// and as User.
type Options struct {
	File       string // remembers what was made, so that a restart repeats nothing
	Publisher  *client.Client
	Developer  *client.Client
	EnsureUser func(ctx context.Context, name, password string) error
	Backend    string // URL of the sample backend
	Gateway    string // http or https root to call
	Password   string // of User
}

// Made is what a demo left behind.
type Made struct {
	Key    client.Keys `json:"key"`
	APIID  string      `json:"apiId"`
	User   string      `json:"user"`
	Secret string      `json:"password"`
}

// Run makes the sample once and gives the lines to try.
func Run(ctx context.Context, o Options) ([]string, error) {
	m, err := load(o.File)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = build(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	token, err := o.Developer.AccessToken(ctx, &m.Key)
	if err != nil {
		return nil, err
	}
	insecure := ""
	if strings.HasPrefix(o.Gateway, "https:") {
		insecure = "-k "
	}
	return []string{fmt.Sprintf("curl %s-H 'Authorization: Bearer %s' %s%s/%s/menu", insecure, token, o.Gateway, Context, Version)}, nil
}

func load(file string) (*Made, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var m Made
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return &m, nil
}

// build goes the way a newcomer would, over the product's own interfaces.
// Every step may have been done by a start that was interrupted.
func build(ctx context.Context, o Options) (*Made, error) {
	m := &Made{User: User, Secret: o.Password}
	if err := o.EnsureUser(ctx, m.User, m.Secret); err != nil {
		return nil, fmt.Errorf("create user: %w", err)
	}
	pub, err := o.Publisher.Publish(ctx, client.Publication{
		Document: Document, File: "pizzashack.yaml", Name: API, Version: Version, Context: Context, Endpoint: o.Backend,
		Plans: []string{"Unlimited", "Gold", "Silver", "Bronze"},
	})
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	m.APIID = pub.ID
	api, err := o.Developer.API(ctx, API, Version)
	if err != nil {
		return nil, err
	}
	app, err := o.Developer.Application(ctx, appName, "Unlimited")
	if err != nil {
		return nil, err
	}
	if err := o.Developer.Subscribe(ctx, app, api, "Unlimited"); err != nil {
		return nil, err
	}
	keys, err := o.Developer.Keys(ctx, app)
	if err != nil {
		return nil, err
	}
	m.Key = *keys
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", o.File, err)
	}
	if err := os.WriteFile(o.File, b, 0o600); err != nil {
		return nil, fmt.Errorf("write %s: %w", o.File, err)
	}
	return m, nil
}
