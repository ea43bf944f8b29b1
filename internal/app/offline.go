package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/store"
)

// CAFile is the certificate of a home's authority.
func CAFile(home string) string { return filepath.Join(pki.Dir(home), "ca.pem") }

// beside is a database opened beside a process that may be serving from it.
type beside struct {
	*store.DB
	home *os.File // holds off a restore meanwhile
}

// Close gives the database back, then the home.
func (b *beside) Close() error { return errors.Join(b.DB.Close(), b.home.Close()) }

// openBeside opens the database of a home beside a process that may be
// serving from it. A home that never started is refused rather than made.
func openBeside(ctx context.Context, cfg *config.Config) (*beside, error) {
	if !cfg.Database.Postgres {
		file := strings.TrimPrefix(cfg.Database.URL.Reveal(), "sqlite:")
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no database at %s; is --home right?", file)
		}
	}
	dir, err := holdOff(ctx, cfg.Home, unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db, err := store.Open(ctx, cfg.Database.URL.Reveal(), store.Options{Version: cfg.Binary, Sweep: -1})
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &beside{db, dir}, nil
}

// holdOff locks the directory of a home, which is not what holds the home: it
// only keeps commands that open the database beside a server (LOCK_SH) and a
// restore that replaces it (LOCK_EX) apart. It waits for its turn a few seconds.
func holdOff(ctx context.Context, home string, how int) (*os.File, error) {
	dir, err := os.Open(home)
	if err != nil {
		return nil, err
	}
	for range 100 {
		if err = unix.Flock(int(dir.Fd()), how|unix.LOCK_NB); err == nil {
			return dir, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || ctx.Err() != nil {
			break
		}
		sleep(ctx, 50*time.Millisecond)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another command is using the database of this home; try again when it has ended")
	}
	return nil, errors.Join(err, dir.Close())
}

// ResetPassword gives a user a new password, also while a process serves from
// the same home. An empty password is generated. It returns the password.
func ResetPassword(ctx context.Context, cfg *config.Config, user, password string) (_ string, err error) {
	if password == "" {
		password = strings.ToLower(rand.Text())
	}
	db, err := openBeside(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	d, err := openDirectory(db.DB, nil)
	if err != nil {
		return "", err
	}
	ctx = apim.WithActor(ctx, &apim.Actor{User: "reset-password", Tenant: apim.SuperTenant, System: true})
	name, tenant := splitUser(user)
	if err := d.SetPassword(ctx, tenant, name, password); err != nil {
		if isMissing(err) {
			return "", fmt.Errorf("there is no user %s", user)
		}
		return "", fmt.Errorf("reset password: %w", err)
	}
	if err := db.Audit(ctx, apim.In(tenant), "password", name, "reset", nil, map[string]string{"by": "cardea admin reset-password"}); err != nil {
		return "", fmt.Errorf("reset password: %w", err)
	}
	if err := os.Remove(filepath.Join(cfg.Home, "admin-password")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("remove old password file: %w", err)
	}
	return password, nil
}

func splitUser(user string) (string, apim.TenantID) {
	if i := strings.LastIndexByte(user, '@'); i > 0 {
		return user[:i], apim.TenantID(user[i+1:])
	}
	return user, apim.SuperTenant
}

// openBox is the master key of a home that exists already.
func openBox(cfg *config.Config) (*seal.Box, error) {
	if cfg.MasterKey == "" {
		if _, err := os.Stat(seal.KeyFile(cfg.Home)); err != nil {
			return nil, fmt.Errorf("read master key: %w", err)
		}
	}
	return seal.Load(cfg.Home, cfg.MasterKey.Reveal())
}
