# The image of one file. Build the binary first: make build
FROM scratch
COPY bin/weir /weir
ENTRYPOINT ["/weir"]
