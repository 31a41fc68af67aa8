# The image holds one static binary, built before ("make image"): nothing to
# update, no shell. It needs no registry to build.
#
# For brokers whose certificates a public authority signed, mount the roots and
# name them in SSL_CERT_FILE.
FROM scratch
COPY bin/linux/tidings /tidings
USER 65532:65532
ENTRYPOINT ["/tidings"]
