package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// newLog is a log being written beside the one in use.
type newLog struct {
	f    *os.File
	buf  bytes.Buffer
	size int64
	base int64
}

func (l *Log) newFile() (*newLog, error) {
	f, err := os.CreateTemp(filepath.Dir(l.path), ".snapshot-*")
	if err != nil {
		return nil, fmt.Errorf("rewrite snapshot log: %w", err)
	}
	w := &newLog{f: f}
	err = putFrame(&w.buf, frameHead, l.head, nil)
	if err == nil {
		err = putFrame(&w.buf, frameReset, struct{}{}, nil)
	}
	if err != nil {
		w.abandon()
		return nil, fmt.Errorf("rewrite snapshot log: %w", err)
	}
	return w, nil
}

func (w *newLog) item(it snapshot.Item) error {
	if err := putItem(&w.buf, it); err != nil {
		return err
	}
	if w.buf.Len() < 1<<20 {
		return nil
	}
	return w.flush()
}

func (w *newLog) flush() error {
	n, err := w.f.Write(w.buf.Bytes())
	w.size += int64(n)
	w.buf.Reset()
	return err
}

func (w *newLog) commit(v snapshot.Version) error {
	if err := putFrame(&w.buf, frameCommit, v, nil); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.base = w.size
	return w.f.Sync()
}

func (w *newLog) copy(r io.Reader) error {
	n, err := io.Copy(w.f, r)
	w.size += n
	return err
}

// finish puts the file in the place of the log, for good.
func (w *newLog) finish(path string) error {
	err := errors.Join(w.f.Chmod(0o600), w.f.Sync())
	if err == nil {
		err = os.Rename(w.f.Name(), path)
	}
	if err != nil {
		w.abandon()
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (w *newLog) abandon() {
	w.f.Close()
	os.Remove(w.f.Name())
}
