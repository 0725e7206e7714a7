"""From sensors to BEV embeddings: LiDAR branch, camera branch, fusion. Depends on geometry and sensors."""
