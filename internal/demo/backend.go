// Package demo is the sample that a newcomer meets: a small pizza shop as a
// backend, its API, an application, a user, and a line to paste.
package demo

import (
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
)

// Base is where the sample backend is mounted, the path that automation for
// the original expects.
const Base = "/am/sample/pizzashack/v1/api"

// Document is the OpenAPI document of the sample.
//
//go:embed pizzashack.yaml
var Document []byte

// maxOrders bounds the memory of the sample; the oldest order goes first.
const maxOrders = 1000

type pizza struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Price       string `json:"price"`
	Icon        string `json:"icon"`
}

var menu = []pizza{
	{"Margherita", "Tomato, mozzarella and basil", "9.50", "/images/margherita.png"},
	{"Funghi", "Mushrooms, garlic and parsley", "11.00", "/images/funghi.png"},
	{"Quattro Formaggi", "Four cheeses and nothing else", "12.50", "/images/formaggi.png"},
	{"Diavola", "Hot salami and chili", "12.00", "/images/diavola.png"},
	{"Ortolana", "Aubergine, courgette and peppers", "11.50", "/images/ortolana.png"},
}

type order struct {
	OrderID      string `json:"orderId"`
	PizzaType    string `json:"pizzaType"`
	Quantity     int    `json:"quantity"`
	CustomerName string `json:"customerName"`
	Address      string `json:"address"`
	CreditCard   string `json:"creditCardNumber"`
	Delivered    bool   `json:"delivered"`
}

// Backend is the sample shop. Orders live as long as the process.
type Backend struct {
	mu     sync.Mutex
	orders map[string]order
	ids    []string
}

// NewBackend opens the shop.
func NewBackend() *Backend { return &Backend{orders: map[string]order{}} }

// Handler serves the shop below Base.
func (b *Backend) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Base+"/menu", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, menu) })
	mux.HandleFunc("POST "+Base+"/order", b.create)
	mux.HandleFunc("GET "+Base+"/order/{id}", b.with(func(w http.ResponseWriter, _ *http.Request, o order) { answer(w, http.StatusOK, o) }))
	mux.HandleFunc("PUT "+Base+"/order/{id}", b.with(b.update))
	mux.HandleFunc("DELETE "+Base+"/order/{id}", b.with(func(w http.ResponseWriter, _ *http.Request, o order) {
		b.mu.Lock()
		delete(b.orders, o.OrderID)
		b.mu.Unlock()
		w.WriteHeader(http.StatusOK)
	}))
	return mux
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that left needs no answer
}

func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]string{"message": message})
}

func read(w http.ResponseWriter, r *http.Request) (o order, ok bool) {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&o); err != nil {
		refuse(w, http.StatusBadRequest, "the order is not readable")
		return o, false
	}
	if o.Quantity == 0 {
		o.Quantity = 1
	}
	if o.PizzaType == "" || o.Quantity < 0 {
		refuse(w, http.StatusBadRequest, "an order needs a pizzaType and a quantity above zero")
		return o, false
	}
	return o, true
}

func (b *Backend) create(w http.ResponseWriter, r *http.Request) {
	o, ok := read(w, r)
	if !ok {
		return
	}
	o.OrderID = strings.ToLower(rand.Text()[:12])
	b.mu.Lock()
	if len(b.ids) >= maxOrders {
		delete(b.orders, b.ids[0])
		b.ids = b.ids[1:]
	}
	b.orders[o.OrderID] = o
	b.ids = append(b.ids, o.OrderID)
	b.mu.Unlock()
	answer(w, http.StatusCreated, o)
}

func (b *Backend) update(w http.ResponseWriter, r *http.Request, old order) {
	o, ok := read(w, r)
	if !ok {
		return
	}
	o.OrderID = old.OrderID
	b.mu.Lock()
	if _, still := b.orders[o.OrderID]; still {
		b.orders[o.OrderID] = o
	}
	b.mu.Unlock()
	answer(w, http.StatusOK, o)
}

// with finds the order of the path.
func (b *Backend) with(fn func(http.ResponseWriter, *http.Request, order)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		o, ok := b.orders[r.PathValue("id")]
		b.mu.Unlock()
		if !ok {
			refuse(w, http.StatusNotFound, "there is no such order")
			return
		}
		fn(w, r, o)
	}
}
