"""sslyze looks for what is weak in the TLS that the proxy speaks."""

import json
import os
from typing import Any

import trustme

from tests.integration.programs import ROOT, environment, missing
from tests.integration.tls_clients import PROXY_NAME, TlsTestCase, certificate_config
from tests.integration.tls_origins import leaf

#: It wants other versions of libraries than ours, so it has an environment of its own.
SSLYZE = ROOT / ".venv" / "sslyze" / "bin" / "sslyze"
CURVES = {"X25519", "X448", "secp256r1", "secp384r1", "secp521r1"}
FINDINGS = {
    "tls_compression": {"supports_compression": False},
    "tls_1_3_early_data": {"supports_early_data": False},
    "openssl_ccs_injection": {"is_vulnerable_to_ccs_injection": False},
    "tls_fallback_scsv": {"supports_fallback_scsv": True},
    "heartbleed": {"is_vulnerable_to_heartbleed": False},
    "robot": {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"},
    "session_renegotiation": {
        "supports_secure_renegotiation": True,
        "is_vulnerable_to_client_renegotiation_dos": False,
        "client_renegotiations_success_count": 0,
    },
    "tls_extended_master_secret": {"supports_ems_extension": True},
}


class ScanTests(TlsTestCase):
    """The findings, with the proxy's own certificate and with one of an authority."""

    def scan(self, config: str) -> dict[str, Any]:
        """Return what sslyze finds, by the names of its checks."""
        if not SSLYZE.exists():
            missing("sslyze, which .ci/run installs,")
        proxy = self.proxy(config=config)
        file = self.directory / "scan.json"
        sslyze = self.start(
            *(SSLYZE, f"--json_out={file}", "--sni", PROXY_NAME, "--mozilla_config", "disable"),
            *("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--reneg"),
            *("--certinfo", "--compression", "--early_data", "--openssl_ccs", "--fallback"),
            *("--heartbleed", "--robot", "--elliptic_curves", "--ems", "--resum"),
            f"127.0.0.1:{proxy.port}",
            # Not this tree's packages, nor ours.
            env={**environment(), "PYTHONPATH": os.devnull},
        )
        self.assertEqual(0, sslyze.wait(40), sslyze.output())
        (result,) = json.loads(file.read_text())["server_scan_results"]
        found = {}
        for name, check in result["scan_result"].items():
            if check["status"] != "NOT_SCHEDULED":
                self.assertEqual("COMPLETED", check["status"], (name, check))
                found[name] = check["result"]
        self.nothing_is_wrong(proxy)
        return found

    def check(self, found: dict[str, Any], authentication: str) -> None:
        """See that nothing weak was found, whatever kind of key it is."""
        for name in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
            suites = found[f"{name}_cipher_suites"]
            self.assertFalse(suites["is_tls_version_supported"], name)
            self.assertGreater(len(suites["rejected_cipher_suites"]), 5, name)
        names = {
            version: {
                suite["cipher_suite"]["name"]
                for suite in found[f"{version}_cipher_suites"]["accepted_cipher_suites"]
            }
            for version in ("tls_1_2", "tls_1_3")
        }
        ciphers = ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
        forward_secret = f"TLS_ECDHE_{authentication}_WITH_"
        self.assertEqual({forward_secret + cipher for cipher in ciphers}, names["tls_1_2"])
        self.assertEqual({f"TLS_{cipher}" for cipher in ciphers}, names["tls_1_3"])
        for name, finding in FINDINGS.items():
            self.assertEqual(finding, found[name], name)
        curves = {curve["name"] for curve in found["elliptic_curves"]["supported_curves"]}
        self.assertTrue({"X25519", "secp256r1"} <= curves <= CURVES, curves)
        resumed = found["session_resumption"]
        self.assertEqual("FULLY_SUPPORTED", resumed["tls_ticket_resumption_result"])
        self.assertEqual("NOT_SUPPORTED", resumed["session_id_resumption_result"])

    def test_self_signed(self) -> None:
        found = self.scan(f'tls.dns_names = ["{PROXY_NAME}"]')
        self.check(found, "ECDSA")
        (shown,) = found["certificate_info"]["certificate_deployments"]
        (certificate,) = shown["received_certificate_chain"]
        self.assertEqual("sha256", certificate["signature_hash_algorithm"]["name"])
        self.assertEqual("secp256r1", certificate["public_key"]["ec_curve_name"])
        names = certificate["subject_alternative_name"]["dns_names"]
        self.assertEqual([PROXY_NAME], names)

    def test_rsa_by_an_authority(self) -> None:
        ca = trustme.CA()
        presented = leaf(ca.issue_cert(PROXY_NAME, key_type=trustme.KeyType.RSA))
        chain, key = self.directory / "chain.pem", self.directory / "key.pem"
        chain.write_bytes(presented.chain)
        key.write_bytes(presented.key)
        found = self.scan(certificate_config(chain, key))
        self.check(found, "RSA")
        (shown,) = found["certificate_info"]["certificate_deployments"]
        self.assertTrue(shown["received_chain_has_valid_order"])
