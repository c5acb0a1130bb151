// Command berth-check prints what is wrong with a store, by a reading of its
// own. It exits with 1 if anything is.
package main

import (
	"fmt"
	"os"

	"berth/test/check"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: berth-check STORE")
		os.Exit(2)
	}
	r, err := check.Store(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "berth-check:", err)
		os.Exit(2)
	}
	for _, p := range r.Problems {
		fmt.Println(p)
	}
	fmt.Fprintf(os.Stderr, "berth-check: %d versions, %d left-overs, %d problems\n", len(r.Listed), len(r.Left), len(r.Problems))
	if len(r.Problems) > 0 {
		os.Exit(1)
	}
}
