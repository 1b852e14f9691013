// A preview 1 command, as Go itself builds it.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	name, err := os.ReadFile("/config/name")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	fmt.Println(os.Getenv("GREETING"), strings.TrimSpace(string(name)), "from Go", strings.Join(os.Args[1:], " "))
}
