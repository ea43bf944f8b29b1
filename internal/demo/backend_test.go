package demo

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func do(t *testing.T, h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, Base+path, strings.NewReader(body)))
	return w
}

func TestOrderIsPlacedChangedAndCancelled(t *testing.T) {
	h := NewBackend().Handler()
	if w := do(t, h, "GET", "/menu", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "Margherita") {
		t.Fatalf("menu: %d %s", w.Code, w.Body)
	}
	w := do(t, h, "POST", "/order", `{"pizzaType":"Funghi","quantity":2}`)
	var o order
	if err := json.Unmarshal(w.Body.Bytes(), &o); err != nil || w.Code != 201 || o.OrderID == "" {
		t.Fatalf("order: %d %s %v", w.Code, w.Body, err)
	}
	if w := do(t, h, "PUT", "/order/"+o.OrderID, `{"pizzaType":"Diavola"}`); w.Code != 200 {
		t.Fatalf("change: %d %s", w.Code, w.Body)
	}
	if w := do(t, h, "GET", "/order/"+o.OrderID, ""); !strings.Contains(w.Body.String(), "Diavola") {
		t.Fatalf("read: %d %s", w.Code, w.Body)
	}
	if w := do(t, h, "DELETE", "/order/"+o.OrderID, ""); w.Code != 200 {
		t.Fatalf("cancel: %d", w.Code)
	}
	if w := do(t, h, "GET", "/order/"+o.OrderID, ""); w.Code != 404 {
		t.Fatalf("after cancel: %d, want 404", w.Code)
	}
}

func TestBadOrdersAreRefused(t *testing.T) {
	h := NewBackend().Handler()
	for name, body := range map[string]string{"not JSON": "{", "no pizza": "{}", "negative": `{"pizzaType":"x","quantity":-1}`, "too large": `{"pizzaType":"` + strings.Repeat("x", 20000) + `"}`} {
		if w := do(t, h, "POST", "/order", body); w.Code != 400 {
			t.Errorf("%s: %d, want 400", name, w.Code)
		}
	}
}

func TestOrdersAreBounded(t *testing.T) {
	b := NewBackend()
	h := b.Handler()
	for range maxOrders + 5 {
		do(t, h, "POST", "/order", `{"pizzaType":"x"}`)
	}
	if len(b.orders) != maxOrders {
		t.Errorf("%d orders kept, want %d", len(b.orders), maxOrders)
	}
}
