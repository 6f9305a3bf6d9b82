"""The bundled Valkey, for newcomers and small groups: prepared here, then executed in place of this process."""
