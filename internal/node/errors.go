package node

import (
	"errors"

	"github.com/cardea-apim/cardea/internal/fault"
)

// ErrRefused says that the control node will not have this node: another master
// key, a withdrawn certificate, missing rights. Trying again is pointless.
var ErrRefused = errors.New("the control node refuses this node")

// ErrGone says that a body is no longer part of the snapshot.
var ErrGone = errors.New("no longer part of the snapshot")

// isGone recognises it from a feed in the process too.
func isGone(err error) bool {
	return errors.Is(err, ErrGone) || errors.Is(err, fault.Missing.With(""))
}
