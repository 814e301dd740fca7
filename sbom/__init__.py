"""Software bills of materials in the CycloneDX format, for `make sbom`."""
