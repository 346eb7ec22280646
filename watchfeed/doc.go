// Package watchfeed brings the changes of ranges to the watches of a node's
// clients. These are the words that it speaks with the API.
package watchfeed
