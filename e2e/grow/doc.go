// Package grow tests clusters that grow from one node to many, with processes of
// their own.
package grow
