package app

import (
	"io"
	"log/slog"
	"os"

	"github.com/cardea-apim/cardea/internal/config"
)

// newLog is the process's logger: text on a terminal, JSON otherwise, unless
// the configuration says which.
func newLog(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // config has checked the name
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "text" || (c.Format == "" && isTerminal(w)) {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
