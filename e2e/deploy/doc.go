// Package deploy holds the files of folder deploy against the program: what they
// say on its command line, which metrics they look at.
package deploy
