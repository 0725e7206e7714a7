"""Map changes as files: GeoJSON, JSON in map metres, CSV, OSM XML, frame predictions."""
