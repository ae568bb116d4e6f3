// A function that lives on between invocations and answers HTTP: it counts how often each word came.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	seen := map[string]int{}
	// One invocation at a time: an instance needs no lock.
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		payload, err := io.ReadAll(request.Body)
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		for _, word := range strings.Fields(string(payload)) {
			seen[word]++
		}
		log.Printf("invocation %s", request.Header.Get("Brood-Invocation-Id"))
		answer.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(answer).Encode(seen); err != nil {
			log.Print(err)
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
