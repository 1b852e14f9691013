// A preview 1 command, as Go itself builds it.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	// Far more memory than the program begins with, in use while it calls WASI.
	held := make([]byte, 64<<20)
	for i := range held {
		held[i] = 7
	}
	name, err := os.ReadFile("/config/name")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	fmt.Println(os.Getenv("GREETING"), strings.TrimSpace(string(name)), "from Go", strings.Join(os.Args[1:], " "))
	for _, b := range held {
		if b != 7 {
			fmt.Fprintln(os.Stderr, "somebody else wrote to this program's memory")
			os.Exit(4)
		}
	}
}
