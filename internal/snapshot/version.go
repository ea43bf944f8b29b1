// Package snapshot says what a gateway must know and no more: items that are
// immutable, versioned and addressed by content, so that a change costs its
// own size. Its only maker is control/deploy; gateways compile it. It imports
// nothing of the management side.
package snapshot

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Version orders committed changes. The relay gives it after commit; a restore
// or fail-over raises Epoch, which forces every gateway to resynchronise.
type Version struct {
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Compare orders versions: by epoch, then by sequence number.
func (v Version) Compare(o Version) int {
	switch {
	case v.Epoch != o.Epoch:
		if v.Epoch < o.Epoch {
			return -1
		}
		return 1
	case v.Seq != o.Seq:
		if v.Seq < o.Seq {
			return -1
		}
		return 1
	}
	return 0
}

// String is "epoch.seq", the form used in headers and URLs.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.Seq) }

// ParseVersion reads what String writes.
func ParseVersion(s string) (Version, error) {
	e, q, ok := strings.Cut(s, ".")
	if !ok {
		return Version{}, fmt.Errorf("parse version %q: want epoch.seq", s)
	}
	epoch, err := strconv.ParseUint(e, 10, 64)
	if err != nil {
		return Version{}, fmt.Errorf("parse version %q: %w", s, err)
	}
	seq, err := strconv.ParseUint(q, 10, 64)
	if err != nil {
		return Version{}, fmt.Errorf("parse version %q: %w", s, err)
	}
	return Version{Epoch: epoch, Seq: seq}, nil
}

// Receipt says which gateways run a version, and after how long.
type Receipt struct {
	Version  Version       `json:"version"`
	Complete bool          `json:"complete"` // every current gateway acknowledged in time
	Elapsed  time.Duration `json:"elapsedNanos"`
	Gateways []Ack         `json:"gateways"`
}

// Ack is one gateway's answer to a version. A gateway that did not answer in
// time is listed with Acked false.
type Ack struct {
	Gateway string        `json:"gateway"`
	Acked   bool          `json:"acked"`
	After   time.Duration `json:"afterNanos"`
	Failed  []string      `json:"failed,omitempty"` // items that did not compile: kind/id: cause
}
