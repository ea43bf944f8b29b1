package app

import (
	"errors"

	"github.com/cardea-apim/cardea/internal/fault"
)

func isMissing(err error) bool { return errors.Is(err, &fault.Missing) }

func isTaken(err error) bool {
	f := fault.Of(err)
	return f.Kind == fault.Conflict
}
