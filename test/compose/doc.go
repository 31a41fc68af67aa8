// Package compose tests docker-compose.yml: it starts the file with images
// built here, changes the number of billing processes while events flow, and
// counts every effect. It is a module of its own, because what starts compose
// files brings a large module graph along.
package compose
