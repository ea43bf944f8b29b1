package crashtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func TestSQLiteKeepsWhatItAcknowledged(t *testing.T) {
	for range 3 {
		n := Run(t, "sqlite:"+filepath.Join(t.TempDir(), "cardea.db"))
		t.Logf("%d writes acknowledged before the kill", n)
	}
}

func TestPostgresKeepsWhatItAcknowledged(t *testing.T) {
	n := Run(t, pgtest.URL(t))
	t.Logf("%d writes acknowledged before the kill", n)
}
