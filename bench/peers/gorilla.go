// gorilla/websocket. Usage: gorilla PORT MODE.
package main

import (
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

// A hub keeps every connection with a queue of its own, as the library's chat example does.
type hub struct {
	sync.RWMutex
	queues map[*websocket.Conn]chan *websocket.PreparedMessage
}

func (h *hub) join(c *websocket.Conn) {
	queue := make(chan *websocket.PreparedMessage, 256)
	h.Lock()
	h.queues[c] = queue
	h.Unlock()
	go func() {
		for message := range queue {
			if c.WritePreparedMessage(message) != nil {
				return
			}
		}
	}()
}

func (h *hub) leave(c *websocket.Conn) {
	h.Lock()
	close(h.queues[c])
	delete(h.queues, c)
	h.Unlock()
}

func (h *hub) broadcast(kind int, data []byte) {
	message, err := websocket.NewPreparedMessage(kind, data)
	if err != nil {
		return
	}
	h.RLock()
	for c, queue := range h.queues {
		select {
		case queue <- message:
		default:
			c.Close() // too slow, as in the library's chat example
		}
	}
	h.RUnlock()
}

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

func main() {
	port, mode := os.Args[1], os.Args[2]
	all := &hub{queues: map[*websocket.Conn]chan *websocket.PreparedMessage{}}
	upgrader.EnableCompression = mode == "deflate"
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		if mode == "broadcast" {
			all.join(c)
			defer all.leave(c)
		}
		for {
			kind, data, err := c.ReadMessage()
			if err != nil {
				return
			}
			if mode == "broadcast" {
				all.broadcast(kind, data)
				continue
			}
			if mode == "cpu" {
				spin(time.Millisecond)
			}
			if c.WriteMessage(kind, data) != nil {
				return
			}
		}
	})
	if err := http.ListenAndServe("127.0.0.1:"+port, nil); err != nil {
		panic(err)
	}
}
