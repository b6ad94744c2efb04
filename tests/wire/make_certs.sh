#!/bin/sh
# SPDX-License-Identifier: MIT
# make_certs.sh FOLDER: a test CA and server certificates, good and bad, made with openssl(1).
set -eu
cd "$1"

new_ca() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
		-keyout "$1.key" -out "$1.pem" -subj "/CN=rtbridge test $1" \
		-addext "basicConstraints=critical,CA:TRUE" 2>/dev/null
}

# new_cert NAME CA SAN [CA-OPTIONS...]
new_cert() {
	name=$1 ca=$2 san=$3
	shift 3
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-keyout "$name.key" -out "$name.csr" -subj "/CN=$name" 2>/dev/null
	printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$san" >"$name.ext"
	: >index.txt
	cat >ca.conf <<CONF
[ca]
default_ca = test
[test]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
email_in_dn = no
[any]
commonName = supplied
CONF
	openssl ca -batch -notext -config ca.conf -cert "$ca.pem" -keyfile "$ca.key" \
		-in "$name.csr" -out "$name.pem" -extfile "$name.ext" "$@" 2>/dev/null
}

new_ca ca
new_ca other-ca
local=DNS:localhost,IP:127.0.0.1,IP:::1
new_cert good ca "$local" -days 2
new_cert unknown other-ca "$local" -days 2
new_cert wrong-name ca DNS:elsewhere.example -days 2
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
	-keyout self-signed.key -out self-signed.pem -subj "/CN=self-signed" \
	-addext "subjectAltName=$local" -addext "basicConstraints=critical,CA:FALSE" 2>/dev/null
new_cert expired ca "$local" -startdate 20200101000000Z -enddate 20200201000000Z
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=self-signed \
	-keyout self-signed.key -out self-signed.pem -addext "subjectAltName=$local" 2>/dev/null
new_cert future ca "$local" -startdate 20900101000000Z -enddate 20910101000000Z
