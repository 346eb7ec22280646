// Package router cuts clients' requests at range borders.
package router
